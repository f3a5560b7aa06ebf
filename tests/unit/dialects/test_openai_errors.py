"""Error bodies."""

import json

from narthex.core.errors import AuthenticationFailed, InvalidRequest, NarthexError
from narthex.dialects.openai_errors import error_body


def test_an_error_has_four_fields_always() -> None:
    assert json.loads(error_body(InvalidRequest("No.", param="n", code="invalid_value"))) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "n", "code": "invalid_value"}
    }
    assert json.loads(error_body(NarthexError("our secret"))) == {
        "error": {"message": "Internal error.", "type": "server_error", "param": None, "code": None}
    }


def test_one_profile_has_its_own_401_and_no_other_error() -> None:
    body = json.loads(error_body(AuthenticationFailed(), profile="ionos"))
    text = "Unauthorized, wrong or no api key provided to process this request"
    assert body == {"httpStatus": 401, "messages": [{"errorCode": "paas-auth-1", "message": text}]}
    assert "error" in json.loads(error_body(InvalidRequest("No."), profile="ionos"))
    assert "error" in json.loads(error_body(AuthenticationFailed(), profile="thyris"))
