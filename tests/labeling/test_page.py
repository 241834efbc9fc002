"""The page in a real browser: by keyboard, mouse and finger, in several windows, with names that are markup."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.data.sources.label_log import LABEL_LOG
from megavit.data_check.finding import Finding
from megavit.labeling.store import LabelStore, Mark
from tests.helpers.browser import OpenPage
from tests.helpers.label_server import LabelServer, label_server, write_images, write_stripes
from tests.helpers.page_colors import CONTRASTS
from tests.helpers.waiting import wait_until

NAMES = [f"{number:02}.png" for number in range(12)]
MARKUP = '<b onclick="alert(1)">bold</b>&amp;.png'


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServer]:
    with label_server(write_images(tmp_path_factory.mktemp("page"), [*NAMES, MARKUP])) as served:
        yield served


@pytest.fixture
def server(shared_server: LabelServer) -> Iterator[LabelServer]:
    """A server of images without labels."""
    yield shared_server
    (shared_server.folder / LABEL_LOG).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def shared_stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("stripes"))


@pytest.fixture
def stripes(shared_stripes: Path) -> Iterator[Path]:
    """A folder of images to learn from, without labels, whose features are kept."""
    yield shared_stripes
    (shared_stripes / LABEL_LOG).unlink(missing_ok=True)


def open_grid(open_page: OpenPage, server: LabelServer, **options: object) -> Page:
    page = open_page(server.address, **options)
    expect(page.locator(".cell").first).to_be_visible()
    return page


def show_all(page: Page) -> None:
    page.locator("#filter").select_option("all:")
    expect(page.locator(".cell")).to_have_count(len(NAMES) + 1)


def active(page: Page) -> str:
    cell = page.locator(f"#{page.locator('#grid').get_attribute('aria-activedescendant')}")
    return cell.get_attribute("title") or ""


def until_saved(server: LabelServer, count: int) -> None:
    wait_until(lambda: len(server.decisions()) >= count)


def test_images_are_labeled_by_keys_alone(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server)
    first = active(page)
    page.keyboard.press("1")
    expect(page.get_by_role("option", name=f"{first}: cat")).to_be_visible()
    second = active(page)
    assert second != first  # the next one is offered
    page.keyboard.press("2")
    third = active(page)
    page.keyboard.press("s")
    fourth = active(page)
    page.keyboard.press("d")
    fifth = active(page)
    page.keyboard.press("x")
    page.keyboard.press("t")
    page.keyboard.type("bird")
    sixth = active(page)
    page.keyboard.press("Enter")
    until_saved(server, 6)
    assert server.labels() == {first: ("cat",), second: ("dog",), sixth: ("bird",)}
    statuses = {one.path: one.status for one in server.decisions() if one.status != "labeled"}
    assert statuses == {third: "skipped", fourth: "unsure", fifth: "excluded"}
    expect(page.get_by_role("button", name="bird")).to_be_visible()
    expect(page.locator("#done")).to_have_text("3 labeled, 7 left")
    expect(page.get_by_role("log")).to_contain_text(f"{sixth}: bird")
    page.keyboard.press("u")
    page.keyboard.press("1")  # upon what is undone, whether or not the server has answered
    until_saved(server, 8)
    assert server.labels()[sixth] == ("cat",)
    page.reload()
    expect(page.locator(".cell").first).to_be_visible()
    for _ in range(2):
        page.keyboard.press("u")
    until_saved(server, 10)
    assert sixth not in server.labels()
    assert {one.path: one.status for one in server.decisions()}[fifth] == "unlabeled"
    expect(page.locator("#trouble")).to_be_hidden()


def test_many_are_selected_and_labeled_at_once_and_undone_at_once(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server)
    show_all(page)
    page.locator("#grid").focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#chosen")).to_have_text("4 selected of 13 images")
    page.keyboard.press("2")
    until_saved(server, 4)
    assert server.labels() == dict.fromkeys(NAMES[:4], ("dog",))
    assert len({one.stroke for one in server.decisions()}) == 1
    page.keyboard.press("Control+z")
    until_saved(server, 8)
    assert server.labels() == {}
    page.keyboard.press("Control+a")
    expect(page.locator("#chosen")).to_have_text("13 selected of 13 images")
    page.keyboard.press("Escape")
    expect(page.locator("#chosen")).to_have_text("13 images")


def test_images_are_labeled_one_by_one_and_the_suggestion_of_the_order_is_kept(
    server: LabelServer, open_page: OpenPage
) -> None:
    page = open_grid(open_page, server)
    page.keyboard.press("o")
    picture = page.locator("#picture")
    expect(picture).to_be_visible()
    first = picture.get_attribute("alt") or ""
    page.keyboard.press("1")
    expect(picture).not_to_have_attribute("alt", first)
    until_saved(server, 1)
    assert server.labels() == {first: ("cat",)}
    page.keyboard.press("ArrowLeft")
    expect(picture).to_have_attribute("alt", first)
    expect(page.locator("#picture-label")).to_have_text("cat")
    expect(page.get_by_role("button", name="cat")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("g")
    expect(page.locator("#grid")).to_be_focused()


def test_by_mouse_only(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server)
    show_all(page)
    for name in NAMES[:2]:
        page.get_by_role("option", name=name).click()
    page.get_by_role("button", name="cat").click()
    until_saved(server, 2)
    page.get_by_role("option", name=NAMES[5]).dblclick()
    expect(page.locator("#picture")).to_have_attribute("alt", NAMES[5])
    page.get_by_role("button", name="Not sure").click()
    until_saved(server, 3)
    assert server.labels() == dict.fromkeys(NAMES[:2], ("cat",))
    page.get_by_role("button", name="Undo").click()
    until_saved(server, 4)
    assert server.decisions()[-1].status == "unlabeled"


def test_windows_show_what_others_decide_and_do_not_overwrite_it(server: LabelServer, open_page: OpenPage) -> None:
    one, other = open_grid(open_page, server), open_grid(open_page, server)
    for page in (one, other):
        show_all(page)
        page.locator("#grid").focus()
        page.keyboard.press("Home")
    other.route("**/api/changes*", lambda route: route.abort())  # it has not heard of the first one's stroke
    one.keyboard.press("1")
    until_saved(server, 1)
    other.unroute("**/api/changes*")
    other.keyboard.press("2")
    expect(other.get_by_role("option", name=f"{NAMES[0]}: cat")).to_be_visible()
    assert server.labels() == {NAMES[0]: ("cat",)}
    one.keyboard.press("2")
    until_saved(server, 2)
    expect(other.get_by_role("option", name=f"{NAMES[1]}: dog")).to_be_visible()


def test_names_of_files_and_classes_are_text(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server)
    show_all(page)
    page.get_by_role("option", name=MARKUP).click()
    page.get_by_label("Class", exact=True).fill("<i>cat</i>")
    page.keyboard.press("Enter")
    until_saved(server, 1)
    assert server.labels() == {MARKUP: ("<i>cat</i>",)}
    expect(page.get_by_role("button", name="<i>cat</i>")).to_be_visible()
    page.get_by_role("option", name=MARKUP).dblclick()
    expect(page.locator("#picture-name")).to_have_text(MARKUP)
    assert page.locator("#work b, #work i, #filter i").count() == 0
    page.reload()
    expect(page.get_by_role("button", name="<i>cat</i>")).to_be_visible()


def test_a_stroke_is_sent_again_until_it_is_saved(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server)
    page.route("**/api/strokes", lambda route: route.abort())
    page.keyboard.press("1")
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("2 strokes are not saved")
    assert not (server.folder / "labels.csv").exists()
    page.unroute("**/api/strokes")
    page.get_by_role("button", name="Try again").click()
    until_saved(server, 2)
    expect(page.locator("#trouble")).to_be_hidden()
    assert sorted(server.labels().values()) == [("cat",), ("dog",)]


def test_an_answer_that_was_lost_does_not_double_a_stroke(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server)
    asked = []

    def lose_first(route: Route) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/strokes", lose_first)
    page.keyboard.press("1")
    page.keyboard.press("2")

    def have_arrived() -> bool:
        page.wait_for_timeout(50)  # as a request is routed only while the browser is waited for
        return len(asked) >= 3 and len(server.decisions()) >= 2

    wait_until(have_arrived)
    assert len(server.decisions()) == 2


def test_an_image_has_several_labels_where_asked(tmp_path: Path, open_page: OpenPage) -> None:
    with label_server(write_images(tmp_path, NAMES), ("cat", "night"), "multilabel") as server:
        page = open_grid(open_page, server)
        first = active(page)
        for key in "121":
            page.keyboard.press(key)
        until_saved(server, 3)
        assert server.labels() == {first: ("night",)}
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        second = active(page)
        page.keyboard.press("Enter")
        until_saved(server, 5)
        assert server.labels() == {first: ("cat", "night"), second: ()}


def test_of_thousands_only_those_in_sight_exist(tmp_path: Path, open_page: OpenPage) -> None:
    picture = write_images(tmp_path, ["00000.png"]) / "00000.png"
    for number in range(1, 2000):
        (tmp_path / f"{number:05}.png").hardlink_to(picture)
    with label_server(tmp_path) as server:
        page = open_grid(open_page, server)
        page.locator("#filter").select_option("all:")
        page.locator("#grid").focus()
        assert 20 < page.locator(".cell").count() < 120
        page.keyboard.press("End")
        last = page.get_by_role("option", name="01999.png")
        expect(last).to_be_in_viewport()
        assert (last.get_attribute("aria-posinset"), last.get_attribute("aria-setsize")) == ("2000", "2000")
        page.locator("#grid").evaluate("(grid) => { grid.scrollTop = grid.scrollHeight / 2; }")
        expect(page.get_by_role("option", name="01000.png")).to_be_attached()
        assert page.locator(".cell").count() < 120


def test_everything_has_a_name_a_contrast_and_room(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server, reduced_motion="reduce")
    page.keyboard.press("1")
    page.keyboard.press("Space")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=option], [role=listbox]")]
          .filter((one) => one.checkVisibility() && !(one.innerText || one.labels?.length || one.ariaLabel))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 20
        assert [pair for pair in contrasts if pair[0] < 4.5] == [], scheme
    for width in (320, 420, 1000, 1920):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for view in ("Grid", "One by one"):
            page.get_by_role("radio", name=view).check(force=True)
            expect(page.locator("#grid" if view == "Grid" else "#picture")).to_be_in_viewport(ratio=0.9)
            height = page.locator("#grid" if view == "Grid" else "#picture").evaluate("(one) => one.clientHeight")
            assert height > 150, (width, view)


def test_train_reads_what_was_labeled(server: LabelServer, open_page: OpenPage) -> None:
    page = open_grid(open_page, server)
    for key in "12121212":
        page.keyboard.press(key)
    until_saved(server, 8)
    images = load_data(server.folder, DataRecipe())
    assert images.classes == ("cat", "dog")
    assert {sample.name: (images.classes[sample.label],) for sample in images.samples} == server.labels()


def test_what_is_learned_is_shown_suggested_and_used_to_select(stripes: Path, open_page: OpenPage) -> None:
    with label_server(stripes, ("along", "across"), learns=True) as server:
        learner, names = server.session.learner, server.session.images.names
        wait_until(lambda: learner.table is not None and learner.table.is_complete and learner.knowledge.useful != ())
        offered = [one["image"] for one in server.session.queue(44)]
        for place, label in enumerate(("along", "across")):
            marks = [
                {"image": image, "seen": "", "suggested": "", "probability": ""}
                for image in offered
                if int(names[image][:3]) % 2 == place
            ]
            server.session.label(f"{place:08}", "labeled", [label], marks)
        wait_until(lambda: learner.knowledge.labels == 44)
        page = open_grid(open_page, server)
        page.keyboard.press("o")
        picture = page.locator("#picture")
        for count in range(45, 48):
            name = picture.get_attribute("alt") or ""
            page.keyboard.press("12"[int(name[:3]) % 2])
            until_saved(server, count)
            expect(picture).not_to_have_attribute("alt", name)
        assert any(one.suggested for one in server.decisions()[44:])  # three in four are not random
        expect(page.locator("#learned")).to_contain_text("drawn at random")
        expect(page.locator("#looking")).to_be_hidden()  # all are described
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")  # of an image that is labeled, nothing is changed by a suggestion it had
        expect(page.get_by_role("log")).to_contain_text("Nothing is suggested for this image.")
        page.keyboard.press("g")
        page.locator("#filter").select_option("open:")
        suggested = page.locator(".cell.suggested:not(.decided)")
        expect(suggested.first).to_be_visible()
        title, tag = suggested.first.get_attribute("title") or "", suggested.first.locator(".tag").inner_text()
        assert tag == ("along?", "across?")[int(title[:3]) % 2]
        suggested.first.click()
        page.keyboard.press("Enter")
        until_saved(server, 48)
        last = server.decisions()[-1]
        assert (last.path, last.labels, last.suggested) == (title, (tag[:-1],), tag[:-1])
        assert 0.5 < float(last.probability) <= 1
        page.keyboard.press("r")
        expect(page.locator("#chosen")).to_contain_text("selected of 61 images")
        shown = page.locator(".cell").nth(1).get_attribute("title") or ""
        assert shown[:3].isdigit()
        page.locator("#filter").select_option("open:")
        page.locator("#grid").focus()
        page.keyboard.press("Control+a")
        page.get_by_role("button", name="Take suggestions").click()
        until_saved(server, 49)
        taken = server.decisions()[48:]
        assert all(one.labels == (one.suggested,) for one in taken) and len({one.stroke for one in taken}) <= 2


def test_what_the_check_doubts_is_corrected_with_a_key_each(stripes: Path, open_page: OpenPage) -> None:
    store = LabelStore(stripes)
    truth = {f"{number:03}.png": ("along", "across")[number % 2] for number in range(80)}
    wrong = {"004.png": "across", "007.png": "along"}
    store.add("existing", [Mark(name, "labeled", (wrong.get(name, label),)) for name, label in truth.items()], "")
    findings = [
        Finding("label_error", "labeled across, looks like along: 99.0% against 1.0%", ("004.png",), "along", 0.999),
        Finding("label_error", "labeled along, looks like across: 99.0% against 1.0%", ("007.png",), "across", 0.998),
        Finding("duplicate", "the same file twice in train", ("010.png", "012.png"), score=1.0),
        Finding("possible_label_error", "labeled along, looks like across: 60%", ("014.png",), "across", 0.9),
        Finding("confusable_classes", "along and across: 9% of both are predicted as the other", score=0.09),
        Finding("unused", "skipped when labeling", ("016.png",)),
    ]
    with label_server(stripes, (), learns=True) as server:
        wait_until(lambda: server.session.learner.knowledge.labels == 80)
        server.session.check.job.output = json.dumps({"findings": [one.to_dict() for one in findings]})
        server.session.check.job.state = "done"
        page = open_grid(open_page, server)
        late: list[Route] = []  # as on a busy computer, the images to label next come after those of the check
        page.route("**/api/queue*", lambda route: late.append(route))
        page.reload()
        expect(page.locator("#filter")).to_have_value("check")
        expect(page.locator(".cell")).to_have_count(4)
        page.locator("#grid").focus()
        page.keyboard.press("o")
        expect(page.locator("#finding")).to_contain_text("looks like along")
        assert late
        for route in late:
            route.continue_()
        expect(page.locator("#neighbors li")).to_have_count(6)
        expect(page.locator("#neighbors li").first).to_contain_text("al")
        for key, name in (("Enter", "007.png"), ("Enter", "012.png"), ("x", "014.png")):
            page.keyboard.press(key)
            expect(page.locator("#picture")).to_have_attribute("alt", name)
        expect(page.locator("#finding")).to_contain_text("possibly wrong")
        page.keyboard.press("k")
        until_saved(server, 84)
        expect(page.get_by_role("log")).to_contain_text("This was the last one.")
        del truth["012.png"]
        assert server.labels() == {name: (label,) for name, label in truth.items()}
        last = server.decisions()[-1]
        assert (last.path, last.labels, last.suggested) == ("014.png", ("along",), "across")
