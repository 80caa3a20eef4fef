"""Seeds, plugins, errors, summaries, signals."""

import os
import pickle
import signal
from collections import Counter

import pytest

from gptctl.core import plugins, seeds
from gptctl.core.errors import ConflictError, StoppedError, UsageError
from gptctl.core.signals import StopFlag
from gptctl.core.summary import Counts, funnel


def test_seeds_depend_on_every_part_and_on_nothing_else() -> None:
    assert seeds.derive(1, "dropout", 2) == seeds.derive(1, "dropout", 2)
    assert len({seeds.derive(a, b, c) for a in range(5) for b in ("x", "y") for c in range(5)}) == 50
    assert 0 <= seeds.derive(0) < 2**63


def test_unit_hash_is_even() -> None:
    values = [seeds.unit_hash("s", str(i).encode()) for i in range(10_000)]
    assert all(0 <= value < 1 for value in values)
    assert abs(sum(value < 0.1 for value in values) / 10_000 - 0.1) < 0.01


def test_plugins_are_files_and_unknown_ones_name_the_nearest() -> None:
    assert "length" in plugins.names("gptctl.text.filters")
    with pytest.raises(UsageError, match="did you mean 'length'") as caught:
        plugins.load("gptctl.text.filters", "lenght")
    assert caught.value.message.startswith("no filter")


def test_errors_keep_their_hint_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ConflictError("what", "hint")))
    assert (error.message, error.hint, error.exit_code) == ("what", "hint", 5)


def test_counts_add_up_and_come_back() -> None:
    counts = Counts(3, 1, Counter(short=1), Counter({"not JSON": 1}), 30, 10, Counter(short=20))
    counts.add(Counts(2, 2, bytes_in=5, bytes_kept=5))
    assert counts.balanced()
    assert Counts.from_json(counts.to_json()) == counts
    assert funnel("t", counts).rows[-1] == ("kept", "3", "60.0%", "15 B")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_remembered_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopFlag() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(StoppedError) as caught:
            stop.check("training stopped")
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before


def test_a_hangup_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopFlag() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
