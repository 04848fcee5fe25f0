"""Reports of real runs and of one with everything in it: JSON, Markdown, HTML, the terminal."""

import html.parser
import json
import re

import jsonschema
import pytest
from reports import HOSTILE, VARIANTS, full_report

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.reporting.markdown import markdown
from pytest_drlcompress.reporting.report import SCHEMA
from pytest_drlcompress.reporting.results import Judged
from pytest_drlcompress.reporting.table import tone

GATES = ("suites/test_return_retention.py", "suites/test_quantization_error.py")
FILES = ("--drlc-report=out/r.json", "--drlc-report=out/r.md")


def written(project):
    report = json.loads((project.path / "out/r.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    return report


class TestRealRuns:
    def test_what_was_judged(self, suites):
        result = suites.runpytest(*GATES, "-k", "fp32 or ptdq", *FILES)
        assert result.ret == 0
        report = written(suites)
        assert report["counts"]["PASS"] == 4
        assert report["failures"] == []
        assert report["run"]["exit_status"] == 0
        assert {(v["variant"], v["gate"]) for v in report["verdicts"]} == {
            (variant, gate)
            for variant in ("fp32", "ptdq")
            for gate in ("retention", "action error")
        }
        assert {a["variant"]: a["bytes"] for a in report["artifacts"]} == {
            "fp32": 22158,
            "ptdq": 9285,
        }
        assert "| trpo-hopper | ptdq | ✅ PASS 0.9" in (suites.path / "out/r.md").read_text()
        result.stdout.fnmatch_lines(
            [
                "*policy*variant*retention*action error*",
                "*ptdq*PASS 0.9*PASS 0.00*",
                "report: *r.json",
            ]
        )

    def test_a_run_that_stops_early_says_what_it_left_out(self, suites):
        options = ("--drlc-max-episodes=3", "--drlc-variant=fp32", "--drlc-variant=ptdq")
        result = suites.runpytest(*GATES, *options, "-x", *FILES)
        assert result.ret == 1
        report = written(suites)
        assert len(report["failures"]) == 1
        assert len(report["run"]["not_run"]) == 3
        failure = report["failures"][0]
        assert "INCONCLUSIVE" in failure["message"]
        # the command must judge the same again, and write nothing
        assert failure["command"].startswith("pytest ")
        assert "--drlc-max-episodes=3 " in failure["command"] + " "
        assert "--drlc-report" not in failure["command"]
        assert "3 gates were collected and not run." in (suites.path / "out/r.md").read_text()

    def test_two_workers_give_one_report(self, suites):
        options = ("-k", "fp32 or ptdq")
        suites.runpytest(*GATES, *options, *FILES)
        alone = written(suites)
        suites.runpytest(*GATES, *options, *FILES, "-n2")
        spread = written(suites)
        for report in (alone, spread):
            for verdict in report["verdicts"]:
                verdict["details"].pop("seconds", None)
        assert spread["verdicts"] == alone["verdicts"]
        assert spread["artifacts"] == alone["artifacts"]

    def test_a_gate_without_a_verdict_is_a_failure_in_it(self, suites):
        suites.runpytest(GATES[0], "--drlc-variant=l2@99.9", *FILES)
        report = written(suites)
        assert report["verdicts"] == []
        assert len(report["failures"]) == 1

    def test_a_place_that_cannot_be_written_fails_the_run(self, suites):
        (suites.path / "out").write_text("a file")
        result = suites.runpytest(GATES[0], "-k", "fp32", *FILES)
        assert result.ret == 1
        result.stdout.fnmatch_lines(["report *r.json could not be written: *"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--drlc-report=out.pdf", "--drlc-report=out.pdf: must end in .html, .md, .json"),
        ("--drlc-report=out", "--drlc-report=out: must end in .html, .md, .json"),
        ("--drlc-report=folder.md", "--drlc-report=folder.md: is a folder"),
    ],
)
def test_an_impossible_report_is_one_clear_line(pytester, option, message):
    pytester.makepyfile("def test_nothing(): pass")
    pytester.mkdir("folder.md")
    result = pytester.runpytest("--drlc-report=good.json", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in str(result.stderr)
    assert not (pytester.path / "good.json").exists()


def test_the_schema_holds_for_everything_a_report_can_hold():
    text = json.dumps(full_report().to_json(), allow_nan=False)
    jsonschema.validate(json.loads(text), json.loads(SCHEMA.read_text()))


def test_the_schema_refuses_what_is_none():
    report = full_report().to_json()
    report["verdicts"][0]["state"] = "GREEN"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, json.loads(SCHEMA.read_text()))


class TestMarkdown:
    def test_every_row_has_every_column(self):
        lines = [line for line in markdown(full_report()).splitlines() if line.startswith("|")]
        assert len(lines) == 2 + 2 * (len(VARIANTS) + 1)  # heading, and the sweep's row
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1

    def test_text_of_others_stays_text(self):
        text = markdown(full_report())
        outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        assert "<script>" not in outside

    def test_a_failure_has_its_command(self):
        assert "--drlc-policy=my model.zip'" in markdown(full_report())


class _Collector(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.urls = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.urls += [v for name, v in attrs if name in ("src", "href", "xlink:href", "action")]


@pytest.fixture(scope="module")
def page():
    pytest.importorskip("matplotlib")
    from pytest_drlcompress.reporting.html import html as render

    return render(full_report())


@pytest.fixture(scope="module")
def parsed(page):
    collector = _Collector()
    collector.feed(page)
    return collector


class TestHtml:
    def test_it_needs_nothing_else(self, parsed):
        assert "script" not in parsed.tags
        assert all(url.startswith(("#", "data:")) for url in parsed.urls)

    def test_ids_are_unique_and_links_lead_somewhere(self, parsed):
        assert len(parsed.ids) == len(set(parsed.ids))
        assert {url[1:] for url in parsed.urls if url.startswith("#")} <= set(parsed.ids)

    def test_text_of_others_stays_text(self, page):
        assert HOSTILE not in page
        assert "&lt;script&gt;alert(1)" in page

    def test_colours_come_from_the_page(self, page):
        plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
        # retention, bytes, latency, sparsity, attribution and three of a sweep for each policy
        assert len(plots) == 2 * 8
        assert not re.findall(r"#[0-9a-f]{6}\b", " ".join(plots))

    def test_every_plot_can_be_read_without_eyes(self, page):
        for figure in re.findall(r"<figure.*?</figure>", page, re.DOTALL):
            assert re.search(r'role="img" aria-labelledby="([\w-]+)".*?<title id="\1">\w', figure)
            assert figure.count("<tr>") > 1  # the same figures as a table

    def test_what_is_not_there_is_named(self):
        pytest.importorskip("matplotlib")
        from dataclasses import replace

        from pytest_drlcompress.reporting.html import html as render

        page = render(replace(full_report(), judged=(), failures=()))
        assert page.count("Not measured") == 7
        assert "No gate gave a verdict." in page


def test_the_pareto_front():
    plots = pytest.importorskip("pytest_drlcompress.reporting.plots")
    points = [(3.0, 1.0), (1.0, 0.5), (2.0, 0.4), (2.0, 0.8), (4.0, 1.0)]
    assert plots.pareto_front(points) == [1, 3, 0]


def test_where_a_sweep_stopped_is_not_marked_as_a_success():
    stopped = Verdict("retention", "p", "l2@20", State.FAIL, "", 0.87)
    kept = Verdict("retention", "p", "l2@15", State.PASS, "", 0.95)
    assert tone(Judged(stopped, "t", "passed", "")) == "xfailed"
    assert tone(Judged(kept, "t", "passed", "")) == "passed"
    assert tone(Judged(stopped, "t", "failed", "")) == "failed"
