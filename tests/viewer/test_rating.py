"""The blind study: what is asked, what is kept, what the page shows, and what the summary says."""

from __future__ import annotations

import errno
import http.client
import itertools
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.viewer.picture_folder import COLUMNS, INDEX, PICTURES, PictureEntry, picture_id
from grasp_nodes.viewer.rating import (
    RATINGS,
    RatingAnswer,
    RatingStudy,
    RatingTask,
    check_rater,
    plan_tasks,
    read_answers,
)
from grasp_nodes.viewer.rating_server import RatingServer
from grasp_nodes.viewer.rating_summary import bradley_terry, summarise
from grasp_nodes.viewer.row_file import RowFile, read_rows

METHODS = ("fine", "poor", "bad")
OBJECTS = ("mug:1", "box:2", "ring:3")
GRASPS = 4
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def entries(methods: tuple[str, ...] = METHODS, grasps: int = GRASPS) -> list[PictureEntry]:
    return [
        PictureEntry(picture_id(method, item, number), method, item, f"{method}/{item.replace(':', '_')}/{number}.png")
        for method, item, number in itertools.product(methods, OBJECTS, range(grasps))
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An evaluation whose pictures are of one brightness per grasp."""
    root = tmp_path / PICTURES
    root.mkdir()
    index = RowFile(root / INDEX, COLUMNS)
    for number, entry in enumerate(entries()):
        path = root / entry.file
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((40, 120, 3), 60 + 5 * number, np.uint8))
        index.append((entry.id, entry.method, entry.object, entry.file))
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[RatingServer]:
    with RatingServer(RatingStudy(folder, scores=6, pairs=4), port=0) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def request(
    server: RatingServer, method: str, path: str, content: object = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    body = None if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
    connection.request(method, path, body, {"Content-Type": "application/json", **headers} if body else headers)
    reply = connection.getresponse()
    result = reply.status, reply.read(), reply.headers
    connection.close()
    return result


def test_methods_have_equal_shares_and_pairs_show_one_object() -> None:
    pictures = {entry.id: entry for entry in entries()}
    tasks = plan_tasks(list(pictures.values()), "Ann", seed=0, scores=12, pairs=9)
    scores = [task for task in tasks if task.kind == "score"]
    pairs = [task for task in tasks if task.kind == "pair"]
    assert tasks == scores + pairs
    assert Counter(pictures[task.first].method for task in scores) == dict.fromkeys(METHODS, 4)
    assert len({task.first for task in scores}) == 12
    compared = Counter(frozenset((pictures[p.first].method, pictures[p.second].method)) for p in pairs)
    assert compared == {frozenset(two): 3 for two in itertools.combinations(METHODS, 2)}
    assert all(pictures[pair.first].object == pictures[pair.second].object for pair in pairs)


def test_order_and_sides_are_blind() -> None:
    pictures = entries(grasps=100)
    method_of = {entry.id: entry.method for entry in pictures}
    tasks = plan_tasks(pictures, "Ann", seed=0, scores=900, pairs=900)
    ranks = {m: np.mean([k for k, t in enumerate(tasks[:900]) if method_of[t.first] == m]) for m in METHODS}
    assert max(ranks.values()) - min(ranks.values()) < 6 * 900 / np.sqrt(12 * 300)
    pairs = tasks[900:]
    left = Counter(method_of[pair.first] for pair in pairs)
    assert len(pairs) == 900
    assert all(abs(count - 300) < 6 * np.sqrt(150) for count in left.values())


def test_the_plan_depends_on_seed_and_rater_alone() -> None:
    plans = [
        plan_tasks(entries(), rater, seed, 8, 4) for rater, seed in (("Ann", 0), ("Ann", 0), ("Bob", 0), ("Ann", 1))
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    assert plans[0] != plans[3]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_no_question_twice_and_no_more_than_asked_for(scores: int, pairs: int, methods: int, grasps: int) -> None:
    pictures = entries(METHODS[:methods], grasps)
    tasks = plan_tasks(pictures, "Ann", 0, scores, pairs)
    assert len({task.key for task in tasks}) == len(tasks)
    possible_pairs = methods * (methods - 1) // 2 * len(OBJECTS) * grasps
    assert len(tasks) == min(scores, len(pictures)) + min(pairs, possible_pairs)


def test_a_rater_goes_on_and_the_last_answer_counts(folder: Path) -> None:
    study = RatingStudy(folder, scores=3, pairs=2)
    tasks = [task for task, _ in study.tasks("Ann")]
    study.record("Ann", tasks[0], "2", 1.0)
    study.record("Ann", tasks[0], "4", 1.0)
    study.record("Ann", tasks[3], "tie", 2.5)
    study.record("Bob", study.tasks("Bob")[0][0], "1", 1.0)
    again = RatingStudy(folder, scores=3, pairs=2).tasks(" ann ")
    assert again == list(zip(tasks, ["4", "", "", "tie", ""], strict=True))
    assert len(read_rows(folder / RATINGS, ("time", "rater", "task", "first", "second", "answer", "seconds"))) == 4


def test_half_a_row_of_a_killed_process_is_dropped(folder: Path) -> None:
    study = RatingStudy(folder)
    task = study.tasks("Ann")[0][0]
    study.record("Ann", task, "5", 1.0)
    with (folder / RATINGS).open("a") as stream:
        stream.write("2026-01-01,Ann,score,ab")
    study = RatingStudy(folder)
    study.record("Bob", study.tasks("Bob")[0][0], "3", 1.0)
    assert [(answer.rater, answer.answer) for answer in read_answers(folder / RATINGS)] == [("Ann", "5"), ("Bob", "3")]


def test_a_row_that_a_full_disk_cut_off_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RowFile(folder / "rows.csv", ("a", "b"))
    file.append((1, 2))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(InputError, match="no space left"):
            file.append((3, 4))
    file.append((5, 6))
    assert read_rows(folder / "rows.csv", ("a", "b")) == [("1", "2"), ("5", "6")]
    for sign in "\r\n":
        with pytest.raises(InputError, match="line break"):
            file.append((f"7{sign}", 8))


def test_answers_of_many_threads_are_all_kept(folder: Path) -> None:
    study = RatingStudy(folder, scores=20, pairs=0)
    threads = [
        threading.Thread(
            target=lambda name: [study.record(name, t, "3", 0) for t, _ in study.tasks(name)], args=(name,)
        )
        for name in ("Ann", "Bob", "Eve", "Joe")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_answers(folder / RATINGS)) == 80


@pytest.mark.parametrize("name", ["", "   ", "=HYPERLINK(1)", "a" * 41, "a,b", "-x", "a\u202eb"])
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="expected 1 to 40"):
        check_rater(name)


def test_what_is_not_asked_is_not_kept(folder: Path) -> None:
    study = RatingStudy(folder, scores=2, pairs=1)
    asked = {task.first for task, _ in study.tasks("Ann")[:2]}
    other = next(entry.id for entry in entries() if entry.id not in asked)
    with pytest.raises(InputError, match="is not asked this"):
        study.record("Ann", RatingTask("score", other), "3", 1.0)
    with pytest.raises(InputError, match="expected one of 1, 2, 3, 4, 5"):
        study.record("Ann", study.tasks("Ann")[0][0], "6", 1.0)
    assert read_answers(folder / RATINGS) == []


def test_folders_without_pictures_and_damaged_files_name_the_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="grasp-nodes evaluate"):
        RatingStudy(tmp_path / "nothing")
    (folder / RATINGS).write_text("time,rater\n")
    with pytest.raises(InputError, match="expected the columns time,rater,task"):
        RatingStudy(folder)
    (folder / PICTURES / INDEX).write_text("id,method,object,file\nx,m,o,../../../etc/passwd.png\n")
    with pytest.raises(InputError, match=r"expected a \.png below"):
        RatingStudy(folder)


def test_nothing_that_the_browser_gets_names_a_method(server: RatingServer) -> None:
    status, tasks, headers = request(server, "GET", "/tasks?rater=Ann")
    assert status == 200
    _, page, _ = request(server, "GET", "/")
    first = json.loads(tasks)["tasks"][0]["first"]
    _, picture, picture_headers = request(server, "GET", f"/picture/{first}.png")
    assert picture.startswith(b"\x89PNG")
    for content in (tasks, page, str(headers).encode(), str(picture_headers).encode()):
        assert not any(method.encode() in content for method in ("fine", "poor", "bad"))
    assert b"http://" not in page
    assert b"https://" not in page


def test_an_answer_is_on_disk_when_the_server_replies(server: RatingServer, folder: Path) -> None:
    task = json.loads(request(server, "GET", "/tasks?rater=Ann")[1])["tasks"][0]
    answer = {"rater": "Ann", **task, "answer": "4", "seconds": 1.25}
    status, _, _ = request(server, "POST", "/answer", answer)
    assert status == 200
    (kept,) = read_answers(folder / RATINGS)
    assert (kept.rater, kept.task.first, kept.answer, kept.seconds) == ("Ann", task["first"], "4", 1.2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no json", "expected rater, kind"),
        (b"[1]", "expected rater, kind"),
        (b"[" * 4000, "expected rater, kind"),
        (
            b'{"rater": "Ann", "kind": "score", "first": "a", "second": "", "answer": "3", "seconds": 1%s}'
            % (400 * b"0"),
            "expected rater, kind",
        ),
        ({"rater": "Ann"}, "expected rater, kind"),
        ({"rater": 3, "kind": "score", "first": "a", "second": "", "answer": "3", "seconds": 1}, "are texts"),
        ({"rater": "Ann", "kind": "score", "first": "a", "second": "", "answer": "3", "seconds": 1}, "not asked"),
        ({"rater": "Ann", "kind": "score", "first": "a", "second": "", "answer": "3", "seconds": "nan"}, "0 or more"),
    ],
)
def test_bad_answers_are_refused_and_not_kept(server: RatingServer, folder: Path, content: object, reason: str) -> None:
    status, reply, _ = request(server, "POST", "/answer", content)
    assert status == 400
    assert reason in json.loads(reply)["error"]
    assert read_answers(folder / RATINGS) == []


def test_other_sites_cannot_answer_or_read(server: RatingServer) -> None:
    assert request(server, "GET", "/tasks?rater=Ann", Host="evil.example")[0] == 400
    assert request(server, "POST", "/answer", b"{}", **{"Content-Type": "text/plain"})[0] == 404
    assert request(server, "POST", "/answer", b"x" * 5000)[0] == 413
    assert request(server, "GET", "/", Host="[")[0] == 400
    for path in ("//[", "/picture/../../etc/passwd", "/picture/" + "a" * 16 + ".png", "/index.csv"):
        assert request(server, "GET", path)[0] == 404


def test_a_used_port_is_one_message(server: RatingServer, folder: Path) -> None:
    with pytest.raises(InputError, match="give another --port"):
        RatingServer(RatingStudy(folder), port=server.server_address[1])


def answer(rater: str, kind: str, first: str, second: str, value: str) -> RatingAnswer:
    return RatingAnswer("", rater, RatingTask("score" if kind == "score" else "pair", first, second), value, 1.0)


def test_summary_of_a_case_counted_by_hand() -> None:
    pictures = [PictureEntry(f"{m}{k}", m, "mug:1", "") for m in "xy" for k in range(2)]
    answers = [
        *(answer("Ann", "score", "x0", "", "5"), answer("Ann", "score", "x1", "", "4")),
        *(answer("Bob", "score", "x0", "", "3"), answer("Ann", "score", "y0", "", "1")),
        *(answer("Ann", "pair", "x0", "y0", "first"), answer("Ann", "pair", "y1", "x1", "second")),
        *(answer("Bob", "pair", "y0", "x0", "tie"), answer("Bob", "pair", "x1", "y1", "second")),
    ]
    x, y = summarise(pictures, answers)
    assert (x.method, x.score, x.scores, x.wins, x.pairs) == ("x", 4.0, 3, 2.5 / 4, 4)
    assert (y.method, y.score, y.scores, y.wins, y.pairs) == ("y", 1.0, 1, 1.5 / 4, 4)
    assert x.score_low <= x.score <= x.score_high
    assert x.strength == pytest.approx(-y.strength)
    assert x.strength > 0


def test_a_method_without_an_answer_has_no_number() -> None:
    pictures = [PictureEntry("x0", "x", "mug:1", ""), PictureEntry("y0", "y", "mug:1", "")]
    ratings = {one.method: one for one in summarise(pictures, [answer("Ann", "score", "x0", "", "2")])}
    assert ratings["x"].score == 2.0
    assert np.isnan([ratings["y"].score, ratings["y"].score_low, ratings["x"].wins, ratings["x"].strength]).all()
    with pytest.raises(InputError, match="not in the index"):
        summarise(pictures, [answer("Ann", "score", "z0", "", "2")])


def test_intervals_cover_the_true_mean() -> None:
    """Raters who differ and pictures that differ: both must widen the interval."""
    rng = np.random.default_rng(0)
    pictures = [PictureEntry(f"x{k}", "x", "mug:1", "") for k in range(30)]
    covered, widths = 0, []
    for trial in range(60):
        severity, quality = rng.normal(0, 0.5, 8), rng.normal(0, 0.5, 30)
        scores = np.clip(np.round(3 + severity[:, None] + quality + rng.normal(0, 0.3, (8, 30))), 1, 5).astype(int)
        answers = [answer(f"r{r}", "score", f"x{k}", "", str(scores[r, k])) for r in range(8) for k in range(30)]
        (one,) = summarise(pictures, answers, seed=trial)
        covered += one.score_low <= 3.0 <= one.score_high
        widths.append(one.score_high - one.score_low)
    assert covered >= 48
    # The deviation of the mean is sqrt(0.25 / 8 + 0.25 / 30) = 0.2; scores alone would give 0.05.
    assert 0.4 < np.mean(widths) < 1.2


def test_strengths_are_found_again() -> None:
    rng = np.random.default_rng(0)
    true = np.array([1.0, 0.2, -0.4, -0.8])
    first, second = rng.integers(0, 4, (2, 40_000))
    different = first != second
    first, second = first[different], second[different]
    won = (rng.random(len(first)) < 1 / (1 + np.exp(true[second] - true[first]))).astype(float)
    assert np.abs(bradley_terry(first, second, won, 4) - true).max() < 0.05


def test_strengths_stay_finite_and_ties_are_even() -> None:
    always = bradley_terry(np.zeros(50, int), np.ones(50, int), np.ones(50), 2)
    assert np.isfinite(always).all()
    assert always[0] > 2
    assert np.abs(bradley_terry(np.zeros(50, int), np.ones(50, int), np.full(50, 0.5), 2)).max() < 1e-8
    assert (bradley_terry(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 3) == 0).all()


def test_the_command_sums_up(folder: Path) -> None:
    study = RatingStudy(folder, scores=36, pairs=30)
    method_of = {entry.id: entry.method for entry in entries()}
    for task, _ in study.tasks("Ann"):
        ranks = [METHODS.index(method_of[name]) for name in (task.first, task.second) if name]
        study.record("Ann", task, str(5 - ranks[0]) if len(ranks) == 1 else CHOSEN[ranks[0] < ranks[1]], 1.0)
    result = CliRunner().invoke(app, ["rate", str(folder), "--summary", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output.splitlines()[-1])
    assert [row["method"] for row in report["rows"]] == list(METHODS)
    assert [row["score"] for row in report["rows"]] == [5.0, 4.0, 3.0]
    assert [row["wins"] for row in report["rows"]] == [1.0, 0.5, 0.0]
    assert report["answers"] == 66


CHOSEN = {True: "first", False: "second"}


@pytest.mark.page
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_person_rates_with_the_keyboard(server: RatingServer, folder: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        asked: list[str] = []
        problems: list[str] = []
        tab.on("request", lambda one: asked.append(one.url))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.goto(server.address)
        tab.get_by_role("textbox").fill("Ann")
        tab.get_by_role("button", name="Start").click()
        tab.get_by_text("1 of 10").wait_for()
        for number in range(6):
            tab.keyboard.press(str(number % 5 + 1))
            tab.get_by_text(f"{number + 2} of 10").wait_for()
        tab.get_by_text("Which grasp is more natural?").wait_for()
        tab.keyboard.press("Backspace")
        tab.get_by_text("6 of 10").wait_for()
        tab.keyboard.press("5")
        tab.get_by_text("7 of 10").wait_for()
        tab.keyboard.press("a")
        tab.get_by_text("8 of 10").wait_for()
        tab.locator("figure").nth(1).click()
        tab.get_by_text("9 of 10").wait_for()
        # A rater who closes the page goes on with the same name.
        tab.goto(server.address)
        tab.get_by_role("textbox").fill("Ann")
        tab.keyboard.press("Enter")
        tab.get_by_text("9 of 10").wait_for()
        picture = tab.locator("img").first
        playwright.expect(picture).to_have_js_property("complete", True, timeout=20_000)
        playwright.expect(picture).not_to_have_js_property("naturalWidth", 0, timeout=20_000)
        assert tab.locator("img").first.evaluate("image => image.naturalWidth") == 120
        tab.keyboard.press("Space")
        tab.get_by_text("10 of 10").wait_for()
        tab.keyboard.press("b")
        tab.get_by_text("Thank you").wait_for()
        browser.close()
    values = [one.answer for one in read_answers(folder / RATINGS)]
    assert values == ["1", "2", "3", "4", "5", "5", "first", "second", "tie", "second"]
    assert {url.split("/")[2] for url in asked} == {server.address.removeprefix("http://")}
    assert not problems
