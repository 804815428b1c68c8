"""Every error is one line that any terminal can show, whatever a foreign file or library puts into it."""

import pytest

from streamtrack.errors import ConfigError, SourceError, foreign_errors, one_line


def test_a_message_is_one_printable_line_of_bearable_length():
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(MemoryError()) == "it needs more memory than there is"
    assert one_line(RecursionError("maximum recursion depth exceeded")) == "it is nested too deeply"
    assert len(one_line(ValueError("long " * 100))) == 200


def test_an_error_of_ours_is_printable_whatever_name_it_holds():
    assert str(SourceError("a\nb \x1b[2J \udcff \0 é\u3000細胞.zarr")) == "a b \\x1b[2J \\udcff \\x00 é\u3000細胞.zarr"


@pytest.mark.parametrize("error", [ValueError("odd"), MemoryError(), RecursionError(), OSError(5, "gone")])
def test_what_a_library_raises_becomes_an_error_of_ours(error):
    with pytest.raises(ConfigError, match=r"^it is odd: ") as raised, foreign_errors(ConfigError, "it is odd"):
        raise error
    assert raised.value.__cause__ is error


def test_an_error_of_ours_and_ctrl_c_go_through():
    with pytest.raises(SourceError, match=r"^mine$"), foreign_errors(ConfigError, "odd"):
        raise SourceError("mine")
    with pytest.raises(KeyboardInterrupt), foreign_errors(ConfigError, "odd"):
        raise KeyboardInterrupt
