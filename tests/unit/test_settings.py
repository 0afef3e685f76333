"""An unknown name says what was probably meant."""

from __future__ import annotations

import pytest

from vision_to_sound.settings import check_known


def test_check_known_lists_the_allowed_names():
    check_known("a", ["a", "b"], what="method")
    with pytest.raises(ValueError, match="unknown method 'padmi'; did you mean 'padim'.*patchcore"):
        check_known("padmi", ["padim", "patchcore"], what="method")


@pytest.mark.parametrize("name", ["xyz", 3, None, ["padim"], "padim" * 100_000, "\ud800"])
def test_a_name_that_is_like_none_is_refused_too(name):
    with pytest.raises(ValueError, match="Allowed: padim, patchcore"):
        check_known(name, ["padim", "patchcore"], what="method")
