import json
from pathlib import PurePath

import pytest

from hat_sr.batch.ledger import NAME
from hat_sr.batch.plan import plan_jobs, sort_jobs
from hat_sr.errors import ConfigError, InputError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("photos/a.jpg", "photos/trip/b.PNG", "photos/trip/c.gif")
    for name in (*names, "photos/notes.txt", "photos/.hidden.png", "photos/.cache/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def plan(*inputs, output=None, suffix="_x4", image_format=None, overwrite=False, skip_existing=False, quality=None):
    def verdict(job):
        if job.before is None or overwrite:
            return "do"
        return "skip" if skip_existing else "refuse"

    jobs = plan_jobs(inputs, output=output, suffix=suffix, image_format=image_format, quality=quality).jobs
    return [(job.shown_input, job.shown_result) for job in sort_jobs(jobs, verdict)["do"]]


def test_a_file_goes_beside_itself(photos):
    assert plan("photos/a.jpg") == [("photos/a.jpg", "photos/a_x4.jpg")]


def test_a_folder_is_searched_for_images_alone(photos):
    assert plan("photos") == [
        ("photos/a.jpg", "photos/a_x4.jpg"),
        ("photos/trip/b.PNG", "photos/trip/b_x4.PNG"),
        ("photos/trip/c.gif", "photos/trip/c_x4.png"),
    ]


def test_an_output_folder_keeps_the_tree_and_the_names(photos):
    expected = ["large/a.jpg", "large/trip/b.PNG", "large/trip/c.png"]
    assert [output for _, output in plan("photos", output="large")] == expected


def test_a_second_run_does_not_take_results_for_inputs(photos):
    for _, output in plan("photos"):
        (photos / output).touch()
    with pytest.raises(ConfigError, match="already there, and nothing was made: use --overwrite, --skip-existing"):
        plan("photos")
    assert len(plan("photos", overwrite=True)) == 3
    assert plan("photos", skip_existing=True) == []
    (photos / "photos/new.png").touch()
    assert plan("photos", skip_existing=True) == [("photos/new.png", "photos/new_x4.png")]


def test_results_beside_inputs_are_no_inputs_of_another_folder(photos):
    (photos / "photos/a_x4.jpg").touch()
    (photos / "photos/lone_x4.jpg").touch()
    plan = plan_jobs(["photos"], output="large", suffix="_x4", image_format=None)
    assert [job.shown_result for job in plan.jobs] == [
        "large/a.jpg",
        "large/lone_x4.jpg",
        "large/trip/b.PNG",
        "large/trip/c.png",
    ]
    assert plan.left_out == ["photos/a_x4.jpg"]
    assert plan_jobs(["photos"], output=None, suffix="_x4", image_format=None).left_out == []  # it makes that itself


def test_what_ends_with_a_slash_is_a_folder(photos):
    for output in ("b.png/", "b.xyz/", "b.gif/"):
        assert plan("photos/a.jpg", output=output) == [("photos/a.jpg", f"{output}a.jpg")]


def test_the_results_of_a_folder_go_into_one_of_any_name(photos):
    assert plan("photos", output="v1.2")[0] == ("photos/a.jpg", "v1.2/a.jpg")
    (photos / "v1.3").mkdir()
    assert plan("photos/a.jpg", output="v1.3") == [("photos/a.jpg", "v1.3/a.jpg")]
    (photos / "photos/b.png").touch()
    assert plan("photos/a.jpg", "photos/b.png", output="v1.4")[0] == ("photos/a.jpg", "v1.4/a.jpg")


def test_results_inside_the_searched_folder_are_not_inputs(photos):
    output = "photos/large"
    (photos / "photos/large").mkdir()
    (photos / "photos/large/z.png").touch()
    assert len(plan("photos", output=output)) == 3


def test_an_output_folder_may_hold_the_inputs(photos):
    assert [output for _, output in plan("photos", output=".")] == ["a.jpg", "trip/b.PNG", "trip/c.png"]


def test_a_result_that_is_named_is_an_input(photos):
    (photos / "photos/a_x4.jpg").touch()
    assert plan("photos", "./photos/a_x4.jpg", suffix="_x2", overwrite=True)[1][0] == "photos/a_x4.jpg"
    with pytest.raises(ConfigError, match="would replace an input"):
        plan("photos", "./photos/a_x4.jpg", overwrite=True)


def test_one_file_to_one_file(photos):
    assert plan("photos/a.jpg", output="b.png") == [("photos/a.jpg", "b.png")]
    assert plan("photos/*.jpg", output="b.png") == [("photos/a.jpg", "b.png")]
    assert plan("photos/a.jpg", output="b.JPG", image_format="jpeg") == [("photos/a.jpg", "b.JPG")]
    with pytest.raises(ConfigError, match="disagree"):
        plan("photos/a.jpg", output="b.png", image_format="jpg")


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (("photos",), "b.png", "b.png names one file, but there are 3 inputs"),
        (("photos/a.jpg",), "b.gif", ".gif files cannot be written"),
        (("photos",), "b.gif", ".gif files cannot be written"),
        (("photos/a.jpg",), "photos/notes.txt", "notes.txt is a file, and no image"),
        (("photos/a.jpg",), "b.xyz", r"b.xyz: .xyz files cannot be written: use one of .jpg .* or b.xyz/ for a folder"),
        (("photos/*.jpg",), "v1.2", ".2 files cannot be written"),
        (("photos/a.jpg",), "mistyped/dir/x.jpg", "there is no folder mistyped/dir: make it first"),
        (("photos/a.jpg",), "x" * 252 + ".jpg", "cannot be written: File name too long; name another place"),
    ],
)
def test_an_output_that_cannot_be(photos, inputs, output, message):
    with pytest.raises(ConfigError, match=message):
        plan(*inputs, output=output)


def test_patterns(photos):
    assert plan("photos/**/*.PNG") == [("photos/trip/b.PNG", "photos/trip/b_x4.PNG")]
    assert plan(f"{photos}/photos/*.jpg") == [(f"{photos}/photos/a.jpg", f"{photos}/photos/a_x4.jpg")]
    with pytest.raises(InputError, match=r"\*.webp: no file or folder fits this pattern"):
        plan("*.webp")


def test_a_file_named_like_a_pattern_is_itself(photos):
    (photos / "[1].png").touch()
    assert plan("[1].png") == [("[1].png", "[1]_x4.png")]


def test_formats(photos):
    assert plan("photos/a.jpg", image_format="WebP") == [("photos/a.jpg", "photos/a_x4.webp")]
    with pytest.raises(ConfigError, match="format 'gif' cannot be written: use one of"):
        plan("photos/a.jpg", image_format="gif")


def test_two_results_of_one_name_are_refused(photos):
    (photos / "photos/a.png").touch()
    with pytest.raises(ConfigError, match=r"a.jpg and photos/a.png would both become photos/a_x4.tif"):
        plan("photos/a.jpg", "photos/a.png", image_format="tif")


def test_an_input_is_never_replaced(photos):
    with pytest.raises(ConfigError, match="would replace an input"):
        plan("photos", output="photos", overwrite=True)


def test_nothing_to_upscale(photos):
    (photos / "empty").mkdir()
    (photos / "empty/notes.txt").touch()
    with pytest.raises(InputError, match="empty holds no image among 1 files"):
        plan("empty")
    with pytest.raises(InputError, match="no input"):
        plan()
    with pytest.raises(InputError, match=r"lost.jpg: no such file"):
        plan("lost.jpg")


def test_an_input_named_twice_is_done_once(photos):
    assert len(plan("photos/a.jpg", "photos", "photos/a.jpg")) == 3


def test_quality_counts_for_what_an_earlier_call_has_done(photos):
    for name in ("a.jpg", "b.png", "out/a.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).touch()
    settings = {"output": "out", "skip_existing": True, "quality": 90}
    assert plan("a.jpg", "b.png", **settings) == [("b.png", "out/b.png")]
    with pytest.raises(ConfigError, match="quality 90 is for JPEG and WebP"):
        plan("b.png", **settings)


def test_nothing_to_do_in_a_folder_that_cannot_be_written(photos, monkeypatch):
    (photos / "photos/a_x4.jpg").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert plan("photos/a.jpg", skip_existing=True) == []
    with pytest.raises(ConfigError, match="cannot be written to"):
        plan("photos/a.jpg", overwrite=True)


def test_rare_suffixes_of_images_are_seen(photos):
    (photos / "rare").mkdir()
    for name in ("a.jfif", "b.JPE", "c.dib", "d.hif", "e.jxl"):
        (photos / "rare" / name).touch()
    results = [output for _, output in plan("rare", output="large")]
    assert results == [f"large/{name}" for name in ("a.jfif", "b.JPE", "c.dib", "d.png", "e.png")]


def test_links_to_folders_are_followed_and_no_file_is_taken_twice(photos):
    (photos / "elsewhere").mkdir()
    (photos / "elsewhere/e.png").touch()
    (photos / "photos/seen").symlink_to("../elsewhere")
    (photos / "photos/trip/round").symlink_to("..")
    found = [source for source, _ in plan("photos")]
    assert found == ["photos/a.jpg", "photos/seen/e.png", "photos/trip/b.PNG", "photos/trip/c.gif"]
    assert [source for source, _ in plan("photos/**/*.[pP]*")] == ["photos/seen/e.png", "photos/trip/b.PNG"]


def test_folders_that_cannot_be_read_are_named_and_the_rest_is_planned(photos, closed):
    closed(photos / "photos/trip")
    found = plan_jobs(["photos"], output=None, suffix="_x4", image_format=None)
    assert [job.shown_input for job in found.jobs] == ["photos/a.jpg"]
    assert found.unread == ["photos/trip cannot be read: Permission denied"]
    found = plan_jobs(["photos/**/*.jpg"], output=None, suffix="_x4", image_format=None)
    assert (len(found.jobs), found.unread) == (1, ["photos/trip cannot be read"])
    with pytest.raises(InputError, match=r"\*.PNG: no file or folder fits this pattern; photos/trip cannot be read"):
        plan("photos/*/*.PNG")
    closed(photos / "photos")
    found = plan_jobs(["photos"], output=None, suffix="_x4", image_format=None)
    assert (found.jobs, found.unread) == ([], ["photos cannot be read: Permission denied"])


def test_names_that_no_file_can_have(photos):
    with pytest.raises(InputError, match="xxx: no such file or folder"):
        plan("photos/a.jpg", "x" * 300)
    (photos / "itself.png").symlink_to("itself.png")
    assert [source for source, _ in plan("photos/a.jpg", "itself.png")] == ["itself.png", "photos/a.jpg"]


def test_planning_takes_time_in_proportion_to_the_files(photos, monkeypatch):
    """Counted in comparisons of paths: those that a set or a dictionary makes are a few for each."""
    (photos / "many").mkdir()
    sources, results = ([f"{number}{end}.png" for number in range(10_000)] for end in ("", "_x2"))
    lines = [{"run": {"settings": {}}}]
    for source, result in zip(sources, results, strict=True):
        lines += [{"plan": result, "input": source, "stamp": "", "before": None}, {"done": result, "stamp": ""}]
    (photos / "many" / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr("hat_sr.batch.places.list_files", lambda folder, **_: sources + results)
    equal, num_compared = PurePath.__eq__, 0

    def counted(path, other):
        nonlocal num_compared
        num_compared += 1
        assert num_compared < 10 * 20_000
        return equal(path, other)

    monkeypatch.setattr(PurePath, "__eq__", counted)
    found = plan_jobs(["many"], output="large", suffix="_x4", image_format=None)
    assert (len(found.jobs), len(found.left_out)) == (10_000, 10_000)


def test_a_folder_written_in_two_ways_has_one_ledger(photos):
    jobs = plan_jobs(["photos/", "./photos/trip"], output=None, suffix="_x4", image_format=None).jobs
    assert {job.destination for job in jobs} == {"photos", "photos/trip"}
    assert len(jobs) == 3
