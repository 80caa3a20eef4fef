"""Loading a tokenizer from a file or folder, local or a URI, in any of the known formats."""

from __future__ import annotations

import pyarrow.fs as pafs

from gptctl.core.errors import UsageError
from gptctl.io.files import plain_path, read_if_exists
from gptctl.io.object_storage.address import base_name, file_info, join, list_folder, parent
from gptctl.text.tokenization import convert


def load_tokenizer_json(path: str, split_pattern: str | None) -> str:
    """Return a tokenizer as the text of a tokenizer.json.

    Raises UsageError (2) if there is no tokenizer at `path`, DataError (3) if it is damaged.
    """
    path = plain_path(path)
    is_folder = file_info(path).type == pafs.FileType.Directory
    folder = path if is_folder else parent(path)
    present = list_folder(folder)
    names = convert.find_files(list(present)) if is_folder else convert.companion_files(base_name(path))
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise UsageError(
            f"no such tokenizer: {join(folder, missing[0]) if missing else path}",
            f"name a file, or a folder with one of: {convert.FORMATS}",
        )
    files = {name: read_if_exists(present[name]) or b"" for name in names}
    return convert.to_tokenizer_json(files, split_pattern)
