"""The page in a real Chromium, by mouse and by keyboard: `pytest -m browser`.

Where chromium or playwright is not installed they are skipped, unless LAMP_EXP_CHROMIUM=1 says that
they must be.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamp_exp.report.colours import DARK, LIGHT
from lamp_exp.report.loading import find
from lamp_exp.report.page import page
from lamp_exp.report.page.browser import Limits
from tests.browser import Visit, chromium
from tests.records import make_grid, make_run
from tests.test_page import EVIL, asked

pytestmark = pytest.mark.browser
N = 2500


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def file(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of several runs, one with 2,500 examples, the first outputs of which are evil."""
    folder = tmp_path_factory.mktemp("page")
    make_grid(folder / "runs", ["lamp3"], **asked(40))
    many = asked(N)
    make_run(folder / "runs", k=0, skill=0.3, **many)
    make_run(folder / "runs", retriever="random", k=1, skill=0.4, outputs=EVIL, **many)
    make_run(folder / "runs", retriever="contriever", k=4, skill=0.6, **many)
    make_run(folder / "runs", retriever="contriever", k=4, skill=0.5, augmentation="fid", **many)
    text = page(find([folder / "runs"]).records, Limits(), "Results")
    (folder / "page.html").write_text(text, encoding="utf-8")
    return folder / "page.html"


@pytest.fixture
def visit(browser: Any, file: Path) -> Iterator[Visit]:
    """The open page; it may neither complain nor ask for anything."""
    opened = Visit(browser, file)
    opened.page.wait_for_selector(".list li")
    yield opened
    assert opened.faults == []
    assert opened.asked == []
    opened.close()


def choose(visit: Visit, run: str, name: str = "run") -> None:
    options = visit.page.locator(f"select[name={name}] option").all_text_contents()
    label = next(option for option in options if run in option)
    visit.page.select_option(f"select[name={name}]", label=label)


def found(visit: Visit) -> str:
    return visit.page.locator(".found").inner_text()


def column(visit: Visit, number: int) -> list[str]:
    cells = visit.page.locator(f"#runs tbody tr:visible > :nth-child({number})")
    return cells.all_inner_texts()


def focused(visit: Visit) -> str:
    return str(visit.page.evaluate("document.activeElement.outerHTML.slice(0, 300)"))


# ---- tables ----


def test_a_table_is_sorted_by_mouse_and_by_keyboard(visit: Visit):
    head = visit.page.locator("#runs thead th", has_text="mae")
    number = 1 + visit.page.locator("#runs thead th").all_inner_texts().index("mae")
    before = column(visit, number)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    numbers = [float(text) for text in column(visit, number) if text != "–"]
    assert numbers == sorted(numbers) and column(visit, number)[-1] == "–"
    head.locator("button").focus()
    visit.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [float(text) for text in column(visit, number) if text != "–"]
    assert numbers == sorted(numbers, reverse=True) and column(visit, number)[-1] == "–"
    visit.page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "none" and column(visit, number) == before
    sorts = visit.page.locator("#runs thead [aria-sort]").count()
    assert sorts == visit.page.locator("#runs thead th").count()


def test_intervals_stay_with_their_numbers(visit: Visit):
    rows = visit.page.locator("#results tbody").first.locator("tr")
    visit.page.locator("#results thead button").last.click()
    assert rows.count() > 2
    for text in rows.locator("td:last-child:not(.absent)").all_inner_texts():
        assert re.match(r"\d\.\d{3}\*?\n\[", text), text


def test_the_matrix_is_sorted_by_a_task(visit: Visit):
    table = visit.page.locator("#methods table")
    head = table.locator("thead tr:last-child th").nth(1)
    head.locator("button").click()
    column = [
        float(text.split()[0].rstrip("*"))
        for text in table.locator("tbody tr > :nth-child(2):not(.absent)").all_inner_texts()
    ]
    assert len(column) > 1 and column == sorted(column)


def test_a_table_is_filtered_by_words_and_by_columns(visit: Visit):
    section = visit.page.locator("#runs")
    section.locator("input[type=search]").press_sequentially("bm25 lamp3")
    assert set(column(visit, 2)) == {"bm25"}
    assert section.locator("[role=status]").inner_text() == "4 of 17 rows"
    section.locator("label", has_text="k ").last.locator("select").select_option("4")
    assert section.locator("[role=status]").inner_text() == "2 of 17 rows"
    section.locator("input[type=search]").fill("nothing like that")
    assert section.locator("[role=status]").inner_text() == "0 of 17 rows"


# ---- examples ----


def test_2500_examples_are_filtered_at_once(visit: Visit):
    choose(visit, "lamp4-user-dev-zeroshot-contriever")
    assert found(visit) == "Examples 1 to 25 of 2,500"
    expected = {
        "headline": "Examples 1 to 25 of 2,500",  # in every one of them
        "10077": "Examples 1 to 1 of 1 (of 2,500)",
        "HEADLINE 10077": "Examples 1 to 1 of 1 (of 2,500)",
        "nothing like that": "No example of 2,500 fits",
        "": "Examples 1 to 25 of 2,500",
    }
    for words, told in expected.items():
        begun = time.perf_counter()
        visit.page.fill("input[name=words]", words)
        assert found(visit) == told
        assert time.perf_counter() - begun < 2
    milliseconds = visit.page.evaluate(
        "() => { const box = document.querySelector('input[name=words]'); box.value = 'headline';"
        " const begun = performance.now(); box.dispatchEvent(new Event('input'));"
        " return performance.now() - begun; }"
    )
    assert milliseconds < 2000
    print(f"filtering took {milliseconds:.0f} ms")


def test_scores_changes_and_order_select_examples(visit: Visit):
    choose(visit, "lamp4-user-dev-zeroshot-contriever")
    visit.page.fill("input[name=low]", "0.9")
    visit.page.select_option("select[name=order]", "-score")
    scores = [float(text.split()[0]) for text in visit.page.locator(".score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.9
    visit.page.fill("input[name=low]", "")
    counts = {}
    for how in ("better", "worse", "equal", "other", "same"):
        visit.page.select_option("select[name=how]", how)
        told = found(visit)
        counts[how] = 0 if "No example" in told else int(told.split()[5].replace(",", ""))
    assert counts["better"] + counts["worse"] + counts["equal"] == N
    assert counts["other"] + counts["same"] == N and counts["better"] > counts["worse"] > 0
    visit.page.select_option("select[name=how]", "worse")
    visit.page.select_option("select[name=order]", "+gain")
    assert visit.page.locator(".score .bad").count() == 25
    visit.page.click("button[name=reset]")
    assert found(visit) == "Examples 1 to 25 of 2,500"


def test_outputs_are_shown_as_text(visit: Visit):
    choose(visit, "lamp4-user-dev-zeroshot-random-k1")
    first = visit.page.locator(".example").first
    first.locator("summary").click()
    for n, text in enumerate(EVIL[:3]):
        assert text in visit.page.locator(".answer").nth(n).inner_text()
    visit.page.fill("input[name=words]", "<img onerror=alert(1)>")
    assert visit.page.locator(".answer mark").count() > 0
    assert visit.page.locator("main img, main script").count() == 0


def test_an_example_tells_all_of_itself(visit: Visit):
    choose(visit, "lamp4-user-dev-zeroshot-contriever")
    first = visit.page.locator(".example").first
    first.locator("summary").click()
    first.locator("dl").first.wait_for()
    told = first.inner_text()
    for words in ("question", "Generate a headline", "gold", "prediction", "rouge_1", "This run",
                  "Compared with", "profile items", "items shown", "Prompt",
                  "the question"):  # fmt: skip
        assert words in told, words
    assert re.search(r"\bi\d+ score 3\b", told)


# ---- two runs ----


def test_two_runs_are_compared(visit: Visit):
    choose(visit, "lamp4-user-dev-zeroshot-contriever")
    assert "none-k0" in visit.page.locator("select[name=other] option:checked").inner_text()
    assert "k=4 compared with no profile" in visit.page.locator(".apart").inner_text()
    choose(visit, "lamp4-user-dev-zeroshot-random", "other")
    rows = visit.page.locator("table.metrics tbody tr")
    assert rows.count() == 2
    name, mine, theirs, apart, test = rows.first.locator("th, td").all_inner_texts()
    assert name == "rouge_1 (higher is better)"
    assert float(mine) - float(theirs) == pytest.approx(float(apart), abs=0.0011)
    assert re.match(r"95% interval \[.*\], p .*\(paired t, clustered by user\)", test)
    counts = []
    for name in ("better", "worse", "with the same score", "with another answer"):
        button = visit.page.locator(".flips button", has_text=name).first
        counts.append(int(button.inner_text().split()[0].replace(",", "")))
        button.click()
        assert found(visit).split()[5] == f"{counts[-1]:,}"
    assert sum(counts[:3]) == N and 0 < counts[1] < counts[0]
    choose(visit, "no other run", "other")
    assert not visit.page.locator(".comparison").is_visible()
    assert visit.page.locator("select[name=how]").is_disabled()


def test_what_differs_in_output_and_prompt_is_marked(visit: Visit):
    choose(visit, "lamp4-user-dev-zeroshot-contriever")
    choose(visit, "lamp4-user-dev-zeroshot-random", "other")
    visit.page.select_option("select[name=how]", "worse")
    first = visit.page.locator(".example").first
    first.locator("summary").click()
    first.locator(".side").nth(1).wait_for()
    mine, theirs = first.locator(".side").all()
    answers = [side.locator("dd").first for side in (mine, theirs)]
    kept = []
    for answer, mark in zip(answers, ("ins", "del"), strict=True):
        whole = answer.inner_text()
        changed = answer.locator(mark).all_inner_texts()
        assert changed and all(words in whole for words in changed)
        kept.append(re.sub(r"\s+", " ", answer.evaluate(
            f"e => {{ const c = e.cloneNode(true); c.querySelectorAll('{mark}')"
            ".forEach((m) => m.remove()); return c.textContent; }"
        )).strip())  # fmt: skip
    assert kept[0] == kept[1]  # without what differs they are the same
    assert mine.locator(".passages ins").count() > 0  # four items instead of one
    assert "is the title for" in mine.locator(".passages").inner_text()


def test_equal_texts_have_no_marks(visit: Visit):
    choose(visit, "lamp4-user-dev-zeroshot-contriever")
    choose(visit, "lamp4-user-dev-zeroshot-random", "other")
    visit.page.select_option("select[name=how]", "same")
    first = visit.page.locator(".example").first
    first.locator("summary").click()
    first.locator(".side").first.wait_for()
    assert first.locator(".side dd ins, .side dd del").count() == 0


def test_differences_are_the_shortest(visit: Visit):
    cases = {
        ("a b c", "a x c"): [False, False, True, False, False],
        ("a b", "a b"): [False, False, False],
        ("a", ""): [True],
        ("x a b c", "a b c y"): [True, True, False, False, False, False, False],
    }
    for (mine, theirs), changed in cases.items():
        got = visit.page.evaluate("([a, b]) => differing(tokens(a), tokens(b))", [mine, theirs])
        assert got == changed, (mine, theirs)


def test_tasks_choose_runs(visit: Visit):
    visit.page.select_option("select[name=task]", "lamp3")
    labels = visit.page.locator("select[name=run] option").all_text_contents()
    assert len(labels) == 13 and all("lamp3" in label for label in labels)
    assert found(visit) == "Examples 1 to 25 of 40"


# ---- keyboard ----


def test_pages_are_turned_by_keyboard_and_the_focus_stays(visit: Visit):
    visit.page.select_option("select[name=task]", "lamp3")
    visit.page.focus("button[name=after]")
    visit.page.keyboard.press("Enter")
    assert found(visit) == "Examples 26 to 40 of 40"
    assert 'name="after"' in focused(visit)
    assert visit.page.get_attribute("button[name=after]", "aria-disabled") == "true"
    visit.page.keyboard.press("Enter")  # there is no further page
    assert found(visit) == "Examples 26 to 40 of 40"
    visit.page.fill("input[name=at]", "1")
    visit.page.keyboard.press("Enter")
    assert found(visit) == "Examples 1 to 25 of 40"


def test_an_example_opens_by_keyboard(visit: Visit):
    told = visit.page.locator(".example").first.locator("dl").first
    visit.page.locator(".example summary").first.focus()
    visit.page.keyboard.press("Enter")
    told.wait_for(state="visible")  # the event comes after the key
    visit.page.keyboard.press("Enter")
    told.wait_for(state="hidden")


def test_the_tab_key_goes_through_the_page_in_order_and_shows_where_it_is(visit: Visit):
    visit.page.keyboard.press("Tab")
    assert "Skip to the content" in focused(visit)
    assert visit.page.locator(".skip").bounding_box()["y"] >= 0  # seen when it has the focus
    visit.page.keyboard.press("Enter")
    assert 'id="main"' in focused(visit)
    visit.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    visit.page.locator(".skip").focus()
    places, invisible = [], []
    for _ in range(400):
        visit.page.keyboard.press("Tab")
        place = visit.page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e);"
            " const all = [...document.querySelectorAll('*')];"
            " return [all.indexOf(e), e.tagName, s.outlineStyle, parseFloat(s.outlineWidth)]; }"
        )
        if place[1] == "BODY":
            break
        places.append(place[0])
        if place[2] == "none" or place[3] < 2:
            invisible.append(place)
    assert len(places) > 60 and places == sorted(places) and invisible == []


def test_what_is_too_large_can_be_scrolled_by_keyboard(visit: Visit):
    visit.resize(760, 800)
    visit.page.wait_for_selector("#runs .scroll[tabindex='0'][role=region][aria-label]")


def test_notes_are_folded_beside_what_they_explain_and_open_by_keyboard(visit: Visit):
    notes = visit.page.locator("#results figure .notes").first
    assert not notes.locator("li").first.is_visible()
    notes.locator("summary").focus()
    visit.page.keyboard.press("Enter")
    notes.locator("li").first.wait_for(state="visible")
    assert "questions" in notes.inner_text()


# ---- how it looks ----


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_scrolls_no_page_sideways(visit: Visit, width: int):
    visit.resize(width, 800)
    visit.page.locator(".example summary").first.click()
    visit.page.locator(".example dl").first.wait_for()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_nothing_is_beside_the_screen(visit: Visit):
    """Every table's cells are below each other, each with the name of its column."""
    visit.resize(390, 800)
    visit.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    wide = visit.page.evaluate(
        "() => [...document.querySelectorAll('main .scroll, main td, main th, main svg, main p')]"
        ".filter((e) => e.checkVisibility() && !e.closest('.unseen') &&"
        " (e.getBoundingClientRect().right > 391 || e.scrollWidth > e.clientWidth + 1 &&"
        " e.matches('.scroll'))).map((e) => e.outerHTML.slice(0, 120))"
    )
    assert wide == []
    cell = visit.page.locator("#runs tbody tr td[data-name=questions]").first
    assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"questions"'


def test_the_first_column_stays_where_a_table_is_wider_than_the_window(visit: Visit):
    visit.resize(760, 800)
    box = visit.page.locator("#runs .scroll")
    head = box.locator("tbody th").first
    before = head.bounding_box()
    box.evaluate("e => { e.scrollLeft = 200; }")
    assert box.evaluate("e => e.scrollLeft") > 100
    assert head.bounding_box()["x"] == pytest.approx(before["x"], abs=1)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 760


def test_the_links_to_sections_lie_above_the_headers_of_tables(visit: Visit):
    hidden = """() => {
      const head = document.querySelector(".matrix thead").getBoundingClientRect();
      window.scrollBy({top: head.top, behavior: "instant"});
      return [...document.querySelectorAll("nav.sections a")].filter(link => {
        const box = link.getBoundingClientRect();
        const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        return top !== link;
      }).map(link => link.textContent);
    }"""
    assert visit.page.evaluate(hidden) == []


def test_no_text_of_a_plot_is_clipped(visit: Visit):
    out = visit.page.evaluate(
        "() => [...document.querySelectorAll('.drawing svg')].flatMap((svg) => {"
        " const box = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter((t) => {"
        "  const b = t.getBoundingClientRect(); return b.left < box.left - 1 ||"
        "  b.right > box.right + 1 || b.top < box.top - 1 ||"
        "  b.bottom > box.bottom + 1; }).map((t) => t.textContent); })"
    )
    assert out == []


@pytest.mark.parametrize(("scheme", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_it_follows_the_screens_mode(browser: Any, file: Path, scheme: str, colours: Any):
    opened = Visit(browser, file, color_scheme=scheme)
    got = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(colours["ground"][n : n + 2], 16) for n in (1, 3, 5))
    assert got == f"rgb({red}, {green}, {blue})"
    drawn = opened.page.evaluate(
        "getComputedStyle(document.querySelector('#k .drawing svg text')).fill"
    )
    red, green, blue = (int(colours["text"][n : n + 2], 16) for n in (1, 3, 5))
    assert drawn == f"rgb({red}, {green}, {blue})"
    opened.close()


def test_paper_is_light_and_has_all_rows(browser: Any, file: Path):
    opened = Visit(browser, file, color_scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert not opened.page.locator(".browser").is_visible()
    assert not opened.page.locator(".controls").first.is_visible()
    assert opened.page.locator("#results .notes li").first.is_visible()  # unfolded
    box = opened.page.locator("#runs .scroll")
    assert box.evaluate("e => e.scrollHeight <= e.clientHeight + 1")
    opened.close()


def test_it_can_be_read_without_javascript(browser: Any, file: Path):
    opened = Visit(browser, file, java_script_enabled=False)
    assert opened.page.locator("#runs tbody tr").count() == 17
    assert opened.page.locator("#k .drawing svg").first.is_visible()
    assert opened.page.locator("#answer .card").first.is_visible()
    assert opened.page.locator("noscript p").is_visible()
    assert not opened.page.locator(".browser").is_visible()
    opened.close()


def test_a_screen_reader_hears_names(visit: Visit):
    nameless = visit.page.evaluate(
        "() => [...document.querySelectorAll('main button, main input, main select, main svg[role],"
        " main table')].filter((e) => !(e.labels && e.labels.length) && !e.textContent.trim()"
        " && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby'))"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    tree = visit.page.locator("#examples").aria_snapshot()
    for words in ("combobox", "status", "list", 'button "Next"', 'heading "Compare two runs',
                  'table "Metrics of the two runs"'):  # fmt: skip
        assert words in tree, words


@pytest.mark.parametrize("width", [1280, 390])
def test_a_screen_reader_hears_tables_as_tables(visit: Visit, width: int):
    """On a phone too, where their rows are blocks."""
    visit.resize(width, 900)
    tree = visit.page.locator("#methods").aria_snapshot()
    for words in ("table", "row", "rowheader", "cell"):
        assert re.search(rf"- '?{words}\b", tree), words


def test_300_runs_are_sorted_and_filtered_at_once(browser: Any, tmp_path: Path):
    for retriever in ("bm25", "contriever", "random"):
        for seed in range(25):
            for k in (1, 2, 4, 8):
                make_run(tmp_path, retriever=retriever, k=k, seed=seed, questions=2, made_up=True)
    text = page(find([tmp_path]).records, Limits(megabytes=1), "Results")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    opened = Visit(browser, tmp_path / "page.html")
    section = opened.page.locator("#runs")
    assert section.locator("tbody tr").count() == 300
    for action in ("table.tHead.querySelector('button').click()",
                   "search.value = 'bm25'; search.dispatchEvent(new Event('input'))"):  # fmt: skip
        milliseconds = opened.page.evaluate(
            "() => { const table = document.querySelector('#runs table'),"
            " search = document.querySelector('#runs input[type=search]');"
            f" const begun = performance.now(); {action};"
            " table.getBoundingClientRect(); return performance.now() - begun; }"
        )
        assert milliseconds < 1000
    assert section.locator("[role=status]").inner_text() == "100 of 300 rows"
    assert opened.faults == [] and opened.asked == []
    opened.close()
