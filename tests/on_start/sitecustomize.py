"""Python runs this file in every interpreter that starts with its folder on PYTHONPATH: file faults in child processes."""

from tests import file_faults

file_faults.install()
