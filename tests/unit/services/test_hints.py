"""The next step that a refused project is told fits what was asked for."""

import pytest

from hivectl.model.errors import HiveError


async def refusal(desk, method, **given):
    with pytest.raises(HiveError) as caught:
        await desk.call(method, **given)
    return caught.value


async def test_only_create_is_told_of_mkdir(desk, tmp_path):
    async with desk() as open_desk:
        (tmp_path / "web").mkdir()
        await open_desk.call("project.create", path=str(tmp_path / "web"), name="site")
        nowhere = str(tmp_path / "nowhere")
        assert "--mkdir" in (await refusal(open_desk, "project.create", path=nowhere)).hint
        for method, given in (
            ("project.inspect", {"path": nowhere}),
            ("project.update", {"project": "site", "path": nowhere}),
        ):
            error = await refusal(open_desk, method, **given)
            assert error.details["reason"] == "not_found"
            assert "exist" in error.hint
            assert "--mkdir" not in error.hint


async def test_a_repository_that_cannot_be_cloned_is_about_its_address(desk, tmp_path):
    async with desk() as open_desk:
        error = await refusal(
            open_desk,
            "project.create",
            path=str(tmp_path / "clone"),
            repo=f"file://{tmp_path}/no.git",
        )
        assert error.details["reason"] == "clone_failed"
        assert "Check the address" in error.hint


async def test_a_name_that_is_close_is_offered_as_one_would_type_it(desk, tmp_path):
    async with desk() as open_desk:
        (tmp_path / "site").mkdir()
        await open_desk.call("project.create", path=str(tmp_path / "site"))
        error = await refusal(open_desk, "project.get", project="sitee")
        assert error.hint == "Did you mean `site`?"
