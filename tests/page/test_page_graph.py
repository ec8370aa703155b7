from __future__ import annotations

from typing import TYPE_CHECKING

import surgery
from surgery.errors import SelectionError
from surgery.rewriting import parse_selection
from tests.page.conftest import settle

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.page.conftest import Opener

MATCHES = """(text) => {
  try {
    const predicate = parseSelection(text);
    return currentRun().operations.filter(predicate).map((operation) => operation.path);
  } catch (error) {
    return error.constructor.name;
  }
}"""
SELECTIONS = [
    "up*.conv",
    "op:cat",
    "op:Conv_2d",
    "op:*norm*",
    "inside:up3",
    "inside:up? & ~op:cat",
    "up[12].* | down1.conv",
    "up[!12].cat",
    "(op:conv2d | op:cat) & ~(down[1-3]* | inside:up2)",
    "~op:conv2d & inside:down*",
    "~~op:cat",
    "[",
    "up2.ca?",
    "a.b|c",
    "op:",
    "kind:cat",
    "up* &",
    "(up*",
    "up* )",
    "| up*",
]
LAYOUT = """() => ({
  rows: graphView.layout.rows.map(({ position, x, y }) => ({ path: currentRun().operations[position].path, x, y })),
  edges: graphView.layout.edges.map(({ from, to, lane, isNext }) => [from, to, lane, isNext]),
})"""
MANY = """([count, chains]) => {
  const operations = [];
  const edges = [];
  for (let i = 0; i < count; i += 1) {
    const modules = [`stage${Math.floor(i / 50)}`];
    const path = `${modules[0]}.op${i}`;
    operations.push({ index: i, name: path, path, kind: "conv2d", shape: [1, 8, 64, 64], modules, picture: [] });
    for (let back = 1; back <= chains; back += 1) if (i - back * back >= 0) edges.push([i - back * back, i]);
  }
  surgeryPage.runs.push({ ...currentRun(), id: "many", label: "many", operations, edges, measures: {} });
  update({ run: surgeryPage.runs.length - 1, operation: operations[0].path });
}"""


def shown_operation(page: Page) -> str:
    return page.locator("h1").inner_text()


def test_the_search_understands_selections_as_the_command_line_does(facades: Path, open_page: Opener) -> None:
    page = open_page(facades)
    traced = surgery.trace(surgery.load_model("facades"))
    operations = {each.path: each for each in surgery.operations(traced)}
    for text in SELECTIONS:
        found = page.evaluate(MATCHES, text)
        try:
            selection = parse_selection(text)
        except SelectionError:
            assert found == "SelectionError", text
        else:
            ours = [path for path in found if path in operations]
            assert ours == [path for path, each in operations.items() if selection.matches(each)], text


def test_a_search_counts_dims_and_steps_through_its_matches(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=up7.norm")
    page.keyboard.press("/")
    page.keyboard.type("op:cat")
    assert page.locator(".search-note").inner_text() == "7 of 57"
    page.keyboard.press("Enter")
    assert shown_operation(page) == "up7.cat"
    page.keyboard.press("Enter")
    assert shown_operation(page) == "up6.cat"
    page.keyboard.press("Shift+Enter")
    assert shown_operation(page) == "up7.cat"
    assert page.locator(".node.is-dim[data-path='up7.norm']").count() == 1
    assert page.locator(".node.is-dim[data-path='up7.cat']").count() == 0
    assert "search=op:cat" in page.evaluate("location.hash")
    page.locator("#query").fill("up7.ca")
    assert page.locator(".search-note").inner_text() == "*up7.ca*: 1 of 57"
    page.locator("#query").fill("op:cat &")
    assert page.locator(".search-note").inner_text() == "the selection ends where a pattern is expected"
    assert page.locator(".node.is-dim").count() == 0


def test_operations_are_filtered_by_kind_remark_and_measure(facades: Path, open_page: Opener) -> None:
    page = open_page(facades)
    page.get_by_label("Kind").select_option("convtranspose2d")
    assert page.locator(".search-note").inner_text() == "8 of 57"
    page.get_by_label("Kind").select_option("")
    page.get_by_label("Remark").select_option("constant")
    remarked = page.evaluate("[...graphView.matches].map((each) => currentRun().operations[each].path)")
    assert "up7.act" in remarked
    page.get_by_label("Remark").select_option("measure:checkerboard")
    page.wait_for_function("() => graphView.matches.size > 0")
    matches = page.evaluate("[...graphView.matches].sort((a, b) => a - b)")
    assert page.evaluate("(position) => currentRun().operations[position].path", matches[0]) == "up5.deconv"
    page.keyboard.press("Escape")
    page.evaluate("chooseOperation('up4.deconv')")
    bar = page.locator(".node[data-path='up4.deconv'] .measure")
    assert bar.inner_text().startswith("! 0.6")  # in words too, not by color alone
    page.get_by_text(f"first of {len(matches)} above").click()
    assert shown_operation(page) == "up5.deconv"
    page.get_by_label("Threshold of the measure").fill("2")
    page.keyboard.press("Tab")
    assert page.get_by_text("none above").is_disabled()


def test_modules_fold_and_unfold_and_a_link_into_one_unfolds_it(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=down2.conv")
    page.locator(".box-head[data-module='down2']").click()
    assert page.locator("[data-path='down2.conv']").count() == 0
    folded = page.locator(".node[data-module='down2']")
    assert folded.get_attribute("aria-expanded") == "false"
    assert "3 operations" in folded.inner_text()
    page.evaluate("location.hash = '#op=down2.norm'")
    page.wait_for_selector(".node.is-chosen[data-path='down2.norm']")
    page.keyboard.press("f")
    assert page.locator(".box-head").count() == 1  # that around the chosen operation
    page.keyboard.press("f")
    assert page.evaluate("graphView.layout.boxes.length") == 15


def test_a_skip_is_followed_to_its_other_end_and_back(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=down2.norm")
    edge = ".edge[data-from='down2.norm'][data-to='up3.cat']"
    page.locator(edge).dispatch_event("click")
    assert shown_operation(page) == "up3.cat"
    page.locator(edge).dispatch_event("click")
    assert shown_operation(page) == "down2.norm"
    page.get_by_role("button", name="Go to up3.cat").click()
    assert shown_operation(page) == "up3.cat"


def test_a_u_net_looks_like_a_u_and_its_skips_pass_no_node(facades: Path, open_page: Opener) -> None:
    layout = open_page(facades).evaluate(LAYOUT)
    rows = {row["path"]: row for row in layout["rows"]}
    down = [rows[f"down{level}.conv"]["x"] for level in range(1, 9)]
    up = [rows[f"up{level}.deconv"]["x"] for level in range(1, 9)]
    assert down == sorted(set(down))
    assert up == sorted(set(up))
    assert [row["y"] for row in layout["rows"]] == sorted(row["y"] for row in layout["rows"])
    skips = [(first, last, lane) for first, last, lane, is_next in layout["edges"] if not is_next]
    assert len(skips) == 7
    assert len({lane for *_, lane in skips}) == 7
    for first, last, lane in skips:
        assert all(lane < row["x"] for row in layout["rows"][first : last + 1])
        assert lane > 0


def test_skips_that_overlap_have_lanes_of_their_own_and_those_of_one_operation_share_one(
    facades: Path, open_page: Opener
) -> None:
    lanes = """() => {
      const made = (i) => ({ path: `op${i}`, kind: "conv2d", shape: [1, 8, 9, 9], picture: ["x"] });
      const operations = [...Array(7).keys()].map(made);
      const edges = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [0, 3], [0, 5], [1, 4], [4, 6]];
      const layout = layOutGraph(makeGraphModel(operations, edges), new Set(), 400);
      return layout.edges.filter(({ isNext }) => !isNext).map(({ from, to, lane }) => [from, to, lane]);
    }"""
    found = {(first, last): lane for first, last, lane in open_page(facades).evaluate(lanes)}
    assert set(found) == {(0, 3), (0, 5), (1, 4), (4, 6)}
    assert found[0, 3] == found[0, 5]
    assert len({found[0, 5], found[1, 4]}) == 2
    assert found[4, 6] == found[1, 4]  # its lane is free again
    assert min(found.values()) > 0


def test_of_thousands_of_operations_only_those_in_view_are_in_the_document(facades: Path, open_page: Opener) -> None:
    page = open_page(facades)
    page.evaluate(MANY, [5000, 12])
    page.wait_for_selector(".node[data-module='stage0'], .box-head[data-module='stage0']")
    page.keyboard.press("f")
    assert page.evaluate("graphView.layout.rows.length") == 5000
    assert page.locator(".node").count() < 60
    page.evaluate("chooseOperation('stage80.op4013')")
    page.wait_for_selector(".node.is-chosen")
    box = page.locator(".node.is-chosen").bounding_box()
    assert box is not None
    assert 0 < box["y"] < 800
    assert page.locator(".node").count() < 60


def test_arrows_walk_operations_and_channels(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=up3.cat&image=facade-1")
    page.keyboard.press("ArrowUp")
    assert shown_operation(page) == "up3.norm"
    page.keyboard.press("ArrowDown")
    assert shown_operation(page) == "up3.cat"
    settle(page)
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#enlarged:not([hidden])")
    assert "channel 2" in page.locator(".channel-title").inner_text()
    assert "channel=2" in page.evaluate("location.hash")
    page.keyboard.press("Escape")
    assert page.locator("#enlarged").is_hidden()


def test_the_keys_are_listed_and_each_does_something(facades: Path, open_page: Opener) -> None:
    page = open_page(facades)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    assert dialog.locator("dt").count() == page.evaluate("KEYS.length")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    theme = page.evaluate("document.documentElement.dataset.theme ?? 'light'")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != theme
    page.keyboard.press("c")
    assert page.evaluate("state.colormap") == "viridis"
    page.keyboard.press("s")
    assert page.evaluate("state.scale") == "operation"
    page.keyboard.press("0")
    assert page.evaluate("state.aroundZero") is True


def test_a_link_names_what_is_seen(facades: Path, open_page: Opener) -> None:
    link = "#op=up3.cat&channel=5&image=facade-2&place=0.25,0.5&colors=magma&scale=operation&clip=2&zero=1&search=up*"
    page = open_page(facades, link)
    assert shown_operation(page) == "up3.cat"
    assert page.evaluate("[state.channel, state.image, state.colormap, state.scale, state.clip, state.aroundZero]") == [
        5,
        1,
        "magma",
        "operation",
        2,
        True,
    ]
    written = dict(part.split("=") for part in page.evaluate("location.hash")[1:].split("&"))
    assert written == dict(part.split("=") for part in link[1:].split("&"))
    page.evaluate("location.hash = '#op=down1.conv'")
    page.wait_for_function("() => document.querySelector('h1').textContent === 'down1.conv'")
    assert page.evaluate("[state.channel, state.colormap, state.clip, state.query]") == [None, "drawn", 0, ""]
    page.keyboard.press("Enter")
    assert "channel=0" in page.evaluate("location.hash")


def test_a_link_to_what_there_is_not_shows_what_there_is(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=nothing&channel=99999&image=none&colors=none&place=7,8")
    assert shown_operation(page) == "down1.conv"
    assert page.locator(".cell").count() == 8
    for link, operation in (("#%", "down1.conv"), ("#op=up3.cat&channel=-1&clip=x", "up3.cat"), ("#", "up3.cat")):
        page.evaluate("(link) => (location.hash = link)", link)
        page.wait_for_function("(path) => document.querySelector('h1').textContent === path", arg=operation)
        settle(page)
        assert page.locator(".cell").count() > 0


def test_a_link_with_names_of_no_choice_leaves_each_choice_as_it_is(facades: Path, open_page: Opener) -> None:
    parts = ("colors", "scale", "sort", "view", "clip", "measure", "run", "image", "place", "minus")
    page = open_page(facades)
    for name in ("constructor", "__proto__", "toString", "nonsense", "measure:__proto__", "runs"):
        link = "#op=up2.cat&" + "&".join(f"{part}={name}" for part in parts)
        page.evaluate("(link) => (location.hash = link)", link)
        page.wait_for_function("() => location.hash === '#op=up2.cat&image=facade-1'")
        settle(page)
        assert page.locator("select").evaluate_all("(boxes) => boxes.every((box) => box.selectedIndex >= 0)")


def test_a_link_to_the_difference_of_an_image_and_itself_shows_another_difference(
    facades: Path, open_page: Opener
) -> None:
    page = open_page(facades, "#op=up2.cat&image=facade-2&view=difference&minus=image:facade-2")
    page.wait_for_function("() => location.hash.endsWith('minus=image:facade-1')")
    page.keyboard.press("[")
    page.wait_for_function("() => location.hash.includes('image=facade-1&view=difference&minus=image:facade-2')")


def test_every_control_has_a_name_and_a_picture_a_text(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=up7.act&channel=0&place=0.5,0.5&measure=checkerboard")
    page.wait_for_selector(".place-item")
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, select, input, canvas.map, [role=img]')]
      .filter((each) => !(each.getAttribute('aria-label') || each.textContent.trim() || each.title))
      .map((each) => each.outerHTML)""")
    assert nameless == []
    node = page.locator(".node[data-path='up7.act']")
    assert "constant" in (node.get_attribute("aria-label") or "")
    assert "Histogram from" in (page.locator("figure.histogram").get_attribute("aria-label") or "")


def test_nothing_is_wider_than_the_window(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=up3.cat&channel=5&place=0.5,0.5")
    for width in (1440, 1024, 390):
        page.set_viewport_size({"width": width, "height": 800})
        check_widths(page, width)


def check_widths(page: Page, width: int) -> None:
    for pane in ("graph", "channels", "facts"):
        page.evaluate("(name) => showPane(name)", pane)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for each in ("#toolbar", "#search", "#channels-pane", "#facts-pane", "#operation-head", ".channel-facts"):
        box = page.locator(each).evaluate("each => [each.scrollWidth, each.clientWidth]")
        assert box[0] <= box[1]


def test_on_a_phone_one_pane_is_shown_at_a_time(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, size=(390, 844))
    assert page.locator("#graph-pane").is_visible()
    assert page.locator("#channels-pane").is_hidden()
    assert page.get_by_label("Colormap").is_hidden()
    page.get_by_label("Comparison, scale and colors").click()
    page.get_by_label("Colormap").select_option("magma")
    assert page.evaluate("state.colormap") == "magma"
    assert page.locator("#toolbar").evaluate("(bar) => bar.scrollWidth <= bar.clientWidth")
    page.get_by_label("Comparison, scale and colors").click()
    assert page.get_by_label("Colormap").is_hidden()
    page.locator(".node[data-path='down2.conv']").click()
    assert page.locator("#channels-pane").is_visible()
    page.get_by_role("button", name="Facts").click()
    assert page.locator("#facts-pane").is_visible()
    assert page.locator("#channels-pane").is_hidden()
