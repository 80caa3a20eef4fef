"""What is written down about URIs with passwords in them."""

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.core.redact import redact, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a?region=x", "s3://KEY:***@bucket/a?region=x"),
        ("s3://KEY:SE/CR+ET=@bucket/a", "s3://KEY:***@bucket/a"),
        ("s3://KEY:SE%2FCRET@bucket/a@b", "s3://KEY:***@bucket/a@b"),
        ("redis://:pa@ss@host:6379/0", "redis://:***@host:6379/0"),
        ("--set redis=rediss://me:pw@host/0, then", "--set redis=rediss://me:***@host/0, then"),
        ("unix://me:pw@/run/redis.sock?db=0", "unix://me:***@/run/redis.sock?db=0"),
        ("redis://host/0?db=1&password=pw&x=1", "redis://host/0?db=1&password=***&x=1"),
        ("abfs://c@a.dfs.net/x?account_key=k==&sas_token=t", "abfs://c@a.dfs.net/x?account_key=***&sas_token=***"),
        ("Cannot parse URI: 's3://K:S@b/x' due to ... 's3://K:T@c'", "Cannot parse URI: 's3://K:***@b/x' due to ... 's3://K:***@c'"),
        ('["s3://K:S@b/x", "me@home"]', '["s3://K:***@b/x", "me@home"]'),
        ("s3:/K:S@b/x", "s3:/K:***@b/x"),
    ],
)  # fmt: skip
def test_passwords_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/me@home/x", "file:///a:b@c", "http://host:80/x", "a: b@c", "gs://bucket/a:b@c", "10:/a b:c@d", ""],
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


def test_nested_values_and_errors() -> None:
    uri = "s3://K:S@b"
    assert redacted({"a": [uri, 1, (uri,)], uri: None, "b": {"c": uri}}) == {
        "a": ["s3://K:***@b", 1, ["s3://K:***@b"]],
        uri: None,
        "b": {"c": "s3://K:***@b"},
    }
    error = UsageError(f"no {uri}", f"see {uri}")
    assert (str(error), error.message, error.hint) == ("no s3://K:***@b", "no s3://K:***@b", "see s3://K:***@b")
    assert DataError("x").hint is None
