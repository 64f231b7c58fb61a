import pytest

from ssmd_core.testing import until

pytestmark = pytest.mark.anyio


async def test_a_condition_is_asked_until_it_holds():
    answers = [True, 0, None]
    await until(answers.pop)
    assert answers == []


async def test_a_condition_may_be_awaited():
    answers = [True, False]

    async def condition():
        return answers.pop()

    await until(condition)
    assert answers == []


async def test_a_condition_that_never_holds_is_given_up():
    with pytest.raises(TimeoutError):
        await until(lambda: False, seconds=0.05)


async def test_an_error_of_the_condition_comes_through():
    with pytest.raises(ZeroDivisionError):
        await until(lambda: 1 / 0)
