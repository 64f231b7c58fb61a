from ssmd_core.testing.player import Pace


class Hands:
    """A clock that is moved by hand."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_a_second_at_a_rate_makes_so_many_frames_due():
    now = Hands()
    pace, total = Pace(400, now), 0
    for _ in range(100):
        now.seconds += 0.01
        total += pace.due()
    assert total in {399, 400}


def test_nothing_is_due_before_its_time():
    now = Hands()
    pace = Pace(10, now)
    now.seconds += 0.05
    assert pace.due() == 0


def test_a_long_pause_is_not_made_up_for_in_full():
    now = Hands()
    pace = Pace(100, now)
    now.seconds += 3600
    assert pace.due() == 25


def test_a_slow_rate_makes_a_frame_due_after_all():
    now = Hands()
    pace = Pace(0.5, now)
    now.seconds += 2
    assert pace.due() == 1


def test_a_flood_is_due_at_once_and_on_top():
    now = Hands()
    pace = Pace(1, now)
    pace.hurry(1000)
    assert [pace.due(), pace.due(), pace.due()] == [512, 488, 0]


def test_without_a_rate_something_is_always_due():
    assert Pace(None, Hands()).due() > 0
