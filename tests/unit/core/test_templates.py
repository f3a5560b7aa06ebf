"""Who may bring a chat template to whom."""

import pytest

from narthex.core.errors import UnsupportedParameter
from narthex.core.templates import check_allowed


class Sender:
    def __init__(self, *, may: bool) -> None:
        self.may_send_templates = may


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("may", [True, False])
def test_both_the_key_and_the_model_have_to_allow_it(may: bool, trusted: bool) -> None:
    sender = Sender(may=may)
    if may and trusted:
        check_allowed(sender, model="m", trusted=trusted)
        return
    with pytest.raises(UnsupportedParameter, match="key may not" if trusted else "takes none") as caught:
        check_allowed(sender, model="m", trusted=trusted)
    assert (caught.value.param, caught.value.code) == ("chat_template", "unsupported_parameter")
