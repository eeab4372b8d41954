from pathlib import Path

import pytest

from mote.files.addresses import cleaned, scheme, without_secrets


def test_addresses_and_paths():
    assert [scheme(place) for place in ("https://h/a", "S3://b/a", "a/b.mp4", "C:/a", "x:y", "/a//b")] == [
        "https", "s3", None, None, None, None,
    ]  # fmt: skip
    assert scheme(Path("a/b.mp4")) is None
    with pytest.raises(ValueError, match=r"^https://h/a\.mp4: give an address as text, not as a Path$"):
        scheme(Path("https://user:pw@h/a.mp4?key=1"))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:pw@host/x.mp4?X-Amz-Signature=abc", "https://host/x.mp4"),
        ("rtsp://admin:p@ss@camera:554/1#x", "rtsp://camera:554/1"),
        ("https://token@host", "https://host"),
        ("https://host?key=1@2", "https://host"),
        ("s3://bucket/a@b/c.mp4", "s3://bucket/a@b/c.mp4"),
        ("a?b#c@d.mp4", "a?b#c@d.mp4"),
    ],
)
def test_what_is_shown_of_an_address(address, shown):
    assert without_secrets(address) == shown


def test_messages_of_others():
    place = "https://user:pass-word@host/x.mp4?sig=topsecret"
    text = f"403, message='Forbidden',\n url='{place}' for user with pass-word: topsecret (https://a:b@c/d?e)."
    found = cleaned(text, place)
    assert found == "403, message='Forbidden', url='https://host/x.mp4' for ... with ...: ... (https://c/d)."
