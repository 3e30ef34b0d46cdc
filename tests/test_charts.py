"""Charts: what their traces hold, what stands on them, and what happens with little or nothing to draw."""
import json, re
from datetime import date, timedelta

import polars as pl
import pytest

from trustlab import charts
from trustlab.core import InvalidParameter
from browser import browser, opened

HOSTILE = '<script>window.pwned=1</script><a href="https://example.org">"&\'</a>'
MONDAYS = [date(2024, 1, 1) + timedelta(7 * i) for i in range(6)]


def curve(groups: dict[str, int], points: int = 4) -> pl.DataFrame:
    rows = [{"brand": b, "seconds": 10.0 ** i - 1, "estimate": 0.2 * i, "low": max(0.2 * i - 0.1, 0), "high": 0.2 * i + 0.1, "at_risk": n - i} for b, n in groups.items() for i in range(points)]
    return pl.DataFrame(rows)


def table(groups: dict[str, int], value: str = "ack_24h") -> pl.DataFrame:
    return pl.DataFrame([{"brand": b, "n": n, value: 0.4 + i / 100, f"{value}_low": 0.3, f"{value}_high": 0.6} for i, (b, n) in enumerate(groups.items())])


def by_week(values: list[float | None], partial: bool = False, brand: str | None = None) -> pl.DataFrame:
    half = [None if v is None else v / 2 for v in values]
    frame = pl.DataFrame({"week": MONDAYS[: len(values)], "n": [10] * len(values), "ack_24h": values, "ack_24h_low": half, "ack_24h_high": values, "partial": [partial and i == len(values) - 1 for i in range(len(values))]},
                         schema_overrides={"ack_24h": pl.Float64, "ack_24h_low": pl.Float64, "ack_24h_high": pl.Float64})
    return frame if brand is None else frame.with_columns(brand=pl.lit(brand))


def every() -> dict[str, object]:
    hostile = {HOSTILE: 40, "plain": 30}
    return {
        "incidence": charts.incidence(curve(hostile), ["brand"], title=HOSTILE),
        "rates": charts.rates(table(hostile), "ack_24h", ["brand"], title=HOSTILE),
        "weekly": charts.weekly(pl.concat([by_week([0.2, None, 0.4], True, HOSTILE), by_week([0.5, 0.6, 0.7], False, "plain")]), "ack_24h", ["brand"], title=HOSTILE),
        "empty": charts.empty(HOSTILE, HOSTILE),
    }


@pytest.mark.parametrize("name", ["incidence", "rates", "weekly", "empty"])
def test_every_chart_is_safe_and_bends_to_the_screen(name):
    figure = every()[name]
    text = figure.to_json()
    layout = json.loads(text)["layout"]
    assert "<script" not in text and "<a " not in text and "\\u003cscript" not in text and "&lt;script" in text
    assert "width" not in layout and layout["autosize"] is True and layout["template"]["layout"]["font"]["size"] >= 12
    sizes = [int(size) for size in re.findall(r'(?:font-size:|"size": )(\d+)', json.dumps(layout))]
    assert len(sizes) > 5 and min(sizes) >= 12
    assert layout["template"]["layout"]["xaxis"]["automargin"] and layout["template"]["layout"]["legend"]["orientation"] == "h"


def test_the_default_template_is_left_alone():
    import plotly.io as pio
    before = pio.templates.default
    every()
    assert pio.templates.default == before and "trustlab" in pio.templates


def test_incidence_draws_the_steps_and_keeps_the_zeros():
    figure = charts.incidence(curve({"a": 50, "b": 30}), ["brand"], unit="calls", window="2024")
    low, high, line = figure.data[:3]
    assert list(line.y) == pytest.approx([0, 0.2, 0.4, 0.6]) and list(line.x) == [1, 9, 99, 999] and line.line.shape == "hv"
    assert list(low.y) == pytest.approx([0, 0.1, 0.3, 0.5]) and list(high.y) == pytest.approx([0.1, 0.3, 0.5, 0.7]) and high.fill == "tonexty"
    assert [t.name for t in figure.data if t.name] == ["a (n=50)", "b (n=30)"] and "n = 80 calls" in figure.layout.title.text and "2024" in figure.layout.title.text
    assert figure.layout.xaxis.type == "log" and figure.layout.xaxis.ticktext[0].startswith("≤")
    assert len({(t.line.color, t.line.dash) for t in figure.data if t.name}) == 2


def test_incidence_keeps_the_eight_largest():
    figure = charts.incidence(curve({f"b{i:02}": 10 + i for i in range(11)}), ["brand"])
    names = [t.name for t in figure.data if t.name]
    assert names == [f"b{i:02} (n={10 + i})" for i in range(3, 11)]
    assert "3 smaller groups are" in figure.layout.title.text.replace("<br>", " ").replace('</span> <span style="font-size:12px;color:#555555">', " ")
    assert "n = 165 conversations" in figure.layout.title.text


def test_ticks_do_not_crowd():
    for top in (30, 4000, 90_000, 3e6, 4e7):
        _, axis = charts.time_axis([0, 2, top])
        assert 2 <= len(axis["tickvals"]) <= 7 and axis["tickvals"][0] == 1


def test_rates_order_labels_and_intervals():
    figure = charts.rates(table({"a": 5, "b": 7}), "ack_24h", ["brand"], unit="calls")
    assert list(figure.data[0].x) == pytest.approx([0.41, 0.40]) and [a.text for a in figure.layout.annotations] == ["b (n=7)", "a (n=5)"]
    assert list(figure.data[0].error_x.array) == pytest.approx([0.19, 0.2]) and list(figure.data[0].error_x.arrayminus) == pytest.approx([0.11, 0.1])
    assert figure.layout.xaxis.tickformat == ".0%" and "n = 12 calls" in figure.layout.title.text and "n = 7" in figure.data[0].customdata[0][1]


def test_rates_keep_thirty():
    figure = charts.rates(table({f"b{i:02}": i for i in range(34)}), "ack_24h", ["brand"])
    assert len(figure.data[0].x) == 30 and "4 smaller groups" in figure.layout.title.text and not any("b00" in a.text for a in figure.layout.annotations)


def test_names_that_look_alike_when_cut_stay_apart():
    figure = charts.rates(table({"x" * 60 + "a": 5, "x" * 60 + "b": 7}), "ack_24h", ["brand"])
    assert list(figure.data[0].y) == [0, 1] and len(figure.layout.annotations) == 2


def test_weekly_gaps_and_the_unfinished_week():
    figure = charts.weekly(by_week([0.2, None, 0.4, 0.5, 0.3], partial=True), "ack_24h")
    ribbon, line, tail = figure.data
    assert list(line.y) == [0.2, None, 0.4, 0.5] and line.connectgaps is False
    assert list(tail.y) == [0.5, 0.3] and tail.line.dash == "dot" and tail.marker.symbol == "circle-open" and list(tail.marker.size) == [0, 9]
    assert ribbon.y.count(None) == 2 and MONDAYS[1] not in ribbon.x and "hollow" in figure.layout.title.text


def test_a_week_that_is_absent_is_a_gap():
    figure = charts.weekly(by_week([0.2, 0.3, 0.4]).filter(pl.col("week") != MONDAYS[1]), "ack_24h")
    assert list(figure.data[1].y) == [0.2, None, 0.4] and list(figure.data[1].x) == MONDAYS[:3]


def test_one_week_and_one_unfinished_week():
    assert list(charts.weekly(by_week([0.2]), "ack_24h").data[1].y) == [0.2]
    only = charts.weekly(by_week([0.2], partial=True), "ack_24h")
    assert list(only.data[1].y) == [] and list(only.data[2].y) == [0.2]


def test_an_unfinished_week_without_a_value_is_not_promised():
    figure = charts.weekly(by_week([0.2, 0.3, None], partial=True), "ack_24h")
    assert "hollow" not in figure.layout.title.text and list(figure.data[2].y) == [0.3, None]


def test_a_single_point():
    assert charts.incidence(curve({"a": 5}, points=1), ["brand"]).data[2].mode == "markers"
    assert list(charts.rates(table({"a": 5}), "ack_24h", ["brand"]).data[0].x) == [0.4]


def test_durations_have_a_human_axis():
    frame = pl.DataFrame({"brand": ["a", "b"], "n": [4, 5], "median_seconds": [300.0, 90_000.0], "median_low": [100.0, None], "median_high": [900.0, None]})
    figure = charts.rates(frame, "median_seconds", ["brand"])
    assert figure.layout.xaxis.type == "log" and "1 h" in figure.layout.xaxis.ticktext and list(figure.data[0].error_x.arrayminus) == [0, 200]
    assert figure.data[0].customdata[1][1] == "5 min (1.7 min to 15 min), n = 4"


@pytest.mark.parametrize("figure", [
    lambda: charts.incidence(curve({"a": 5}).clear(), ["brand"]),
    lambda: charts.incidence(curve({"a": 5}).with_columns(estimate=pl.lit(None, pl.Float64)), ["brand"]),
    lambda: charts.rates(table({"a": 5}).clear(), "ack_24h", ["brand"]),
    lambda: charts.weekly(by_week([0.2]).clear(), "ack_24h"),
    lambda: charts.weekly(by_week([None, None]), "ack_24h"),
    lambda: charts.weekly(by_week([float("nan")]), "ack_24h"),
])
def test_nothing_to_draw_says_so(figure):
    made = figure()
    assert not made.data and len(made.layout.annotations) == 1 and made.layout.annotations[0].text


def test_no_estimate_is_said_not_drawn_as_zero():
    frame = table({"a": 5}).with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("ack_24h", "ack_24h_low", "ack_24h_high"))
    figure = charts.rates(frame, "ack_24h", ["brand"])
    assert list(figure.data[0].x) == [None] and figure.layout.annotations[0].text == "a (n=5): no estimate"


def test_a_missing_column_is_named():
    with pytest.raises(InvalidParameter, match="needs the column 'ack_1h'"): charts.rates(table({"a": 5}), "ack_1h", ["brand"])


def test_charts_draw_on_a_phone_and_hostile_names_stay_text(tmp_path):
    from plotly.offline import get_plotlyjs
    parts = "".join(f.to_html(full_html=False, include_plotlyjs=False, config={"responsive": True}) for f in every().values())
    (tmp_path / "charts.html").write_text(f'<meta charset="utf-8"><body style="margin:0"><script>{get_plotlyjs()}</script>{parts}', encoding="utf-8")
    with browser() as chromium:
        page = opened(chromium, tmp_path / "charts.html", width=360, wait="svg.main-svg")
        shown = page.page.locator("svg.main-svg").all_text_contents()
        assert page.charts() >= 4 and page.wide() <= 0 and not page.errors
        assert page.page.evaluate("window.pwned") is None and page.page.locator("svg a").count() == 0
        assert any("<script>window.pwned=1" in text for text in shown)
