"""Short texts in which detectors found nothing are remembered: within limits, and what is found stays found."""

from appliance.policy.detect import MAX_CLEAN, MAX_CLEAN_TEXT, Detectors


def test_what_is_found_is_found_again() -> None:
    detectors = Detectors(["email"], {})
    for _ in range(2):
        assert detectors.find("dana@example.org") == [("email", (0, 16))]
        assert detectors.find("dana") == []


def test_max_clean_and_max_clean_text() -> None:
    detectors = Detectors(["email"], {})
    assert detectors.find("x" * (MAX_CLEAN_TEXT + 1)) == []
    assert not detectors._clean
    for number in range(MAX_CLEAN + 5):
        assert detectors.find(f"{number}") == []
        assert len(detectors._clean) <= MAX_CLEAN
    assert detectors.find("dana@example.org")
