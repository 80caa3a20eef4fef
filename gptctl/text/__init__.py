"""Pure functions over batches of text: Arrow and numpy in, Arrow and numpy out. No file is opened here."""
