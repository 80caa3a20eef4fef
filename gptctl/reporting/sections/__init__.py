"""The sections of the report: one for each output, with content that depends on its stage."""
