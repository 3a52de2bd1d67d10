"""The command line, verb by verb, and every error a user can make."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from label_data import DEVICES, nasbench201

import search_spaces
from nasrlm.cli import main
from search_spaces.analysis import count_macs
from surrogates import registry
from surrogates.text import linearize
from surrogates.text.tokenizer import Tokenizer

ARCH = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
VERBS = (
    *("spaces", "export", "text", "predict", "train", "specialise", "finetune", "search", "report", "demo"),
    *("data list", "data import", "data verify"),
)
TRAIN = ["train", "nasbench201", "--out", "new", "--labels", "labels.csv", "--metrics"]
SEARCH = ["search", "nasbench201", "--out", "new", "--surrogate", "checkpoint", "--objectives"]
#: A true trade-off on any machine: multiply-accumulates against the number of convolutions.
METRICS = "macs,zcp_convs"


@pytest.fixture(autouse=True)
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "linear", "linear_surrogate:LinearSurrogate")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of 120 networks, counted on their graphs."""
    space = search_spaces.get("nasbench201")
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(120)]
    frame = pd.DataFrame(
        {
            "arch": [space.format(arch) for arch in archs],
            "macs": [count_macs(space.to_onnx(arch)) for arch in archs],
            "zcp_convs": [float(space.format(arch).count("nor_conv")) for arch in archs],
        }
    )
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, labels: Path) -> Path:
    out = tmp_path_factory.mktemp("trained") / "checkpoint"
    options = ["--labels", str(labels), "--surrogate", "linear", "--size", "100", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BUILT_IN, "linear", "linear_surrogate:LinearSurrogate")
        assert main(["train", "nasbench201", "--metrics", METRICS, "--out", str(out), *options]) == 0
    return out


@pytest.fixture
def checkpoint(tmp_path: Path, trained: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "checkpoint"))


@pytest.fixture
def searched(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASRLM_DATA", str(tmp_path))
    out = tmp_path / "run"
    assert main(search_command(checkpoint, out)) == 0
    return out


def search_command(checkpoint: Path, out: Path) -> list[str]:
    settings = ["--population", "12", "--generations", "4", "--seed", "3"]
    return [
        "search",
        "nasbench201",
        "--objectives",
        METRICS,
        "--surrogate",
        str(checkpoint),
        "--out",
        str(out),
        *settings,
    ]


class Printed:
    """What a command printed, checked for the form of an error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def json(self) -> object:
        return json.loads(self.capsys.readouterr().out)

    def error(self, arguments: list[str]) -> str:
        """Run a command that must fail with one line."""
        self.capsys.readouterr()
        assert main(arguments) == 2
        lines = self.capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Iterator[Printed]:
    capsys.readouterr()
    yield Printed(capsys)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    example = re.search(rf"Example: (nasrlm {verb}.*?)(?: Arguments:| Options:)", text)
    assert example, text


def test_help_and_errors_do_not_import_what_is_heavy() -> None:
    code = (
        "import sys; from nasrlm.cli import main; assert main(['--help']) == 0; assert main(['nonsense']) == 2;"
        "found = {'torch', 'onnx', 'pandas', 'matplotlib', 'pymoo'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", [[str(Path(sys.executable).with_name("nasrlm"))], [sys.executable, "-m", "nasrlm"]])
def test_the_installed_command_exits_with_2_and_no_traceback(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*command, "report", str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: .*no finished search.*\n", done.stderr)


def test_spaces_as_json_names_sizes(printed: Printed) -> None:
    assert main(["spaces", "--json"]) == 0
    spaces = {space["name"]: space for space in printed.json()}  # type: ignore[attr-defined]
    assert set(spaces) == set(search_spaces.names())
    assert spaces["nasbench201"]["genomes"] == 15625


def test_text_is_what_the_tokenizer_counts(tmp_path: Path, printed: Printed) -> None:
    space = search_spaces.get("nasbench201")
    net, model = tmp_path / "net.onnx", space.to_onnx(space.parse(ARCH))
    onnx.save_model(model, net)
    tokenizer = Tokenizer.train([linearize(model)], vocabulary=300)
    tokenizer.save(tmp_path / "tokenizer.json")
    command = ["text", str(net), "--checkpoint", str(tmp_path)]
    assert main(command) == 0
    captured = printed.capsys.readouterr()
    assert captured.out.strip() == linearize(model).strip()
    assert captured.err.startswith(f"{len(tokenizer.tokens(linearize(model)))} tokens")
    assert main([*command, "--json"]) == 0
    assert printed.json()["text"] == linearize(model)  # type: ignore[index]
    assert main([*command, "--live", "--json"]) == 0
    assert printed.json()["text"] == linearize(model, live=True) != linearize(model)  # type: ignore[index]
    space = search_spaces.get("fbnet")
    model = space.to_onnx(space.sample(np.random.default_rng(0)))
    onnx.save_model(model, net)
    assert main([*command, "--all-functions", "--json"]) == 0
    assert printed.json()["text"] == linearize(model, inlining=False) != linearize(model)  # type: ignore[index]


@pytest.mark.parametrize("options", [[], ["--flat"], ["--weights"], ["--flat", "--weights"]])
def test_export_writes_the_network_of_the_architecture(tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "net.onnx"
    assert main(["export", "nasbench201", ARCH, "-o", str(out), *options]) == 0
    model = onnx.load_model(out)
    onnx.checker.check_model(model)
    assert bool(model.functions) == ("--flat" not in options)
    assert bool(model.graph.initializer) == ("--weights" in options)
    space = search_spaces.get("nasbench201")
    assert count_macs(model) == count_macs(space.to_onnx(space.parse(ARCH)))


def test_export_overwrites_nothing(tmp_path: Path, printed: Printed) -> None:
    out = tmp_path / "net.onnx"
    out.write_text("mine")
    assert "already exists" in printed.error(["export", "nasbench201", ARCH, "-o", str(out)])
    assert out.read_text() == "mine"


def test_predict_tells_what_the_surrogate_knows(tmp_path: Path, checkpoint: Path, printed: Printed) -> None:
    net = tmp_path / "net.onnx"
    assert main(["export", "nasbench201", ARCH, "-o", str(net)]) == 0
    printed.capsys.readouterr()
    assert main(["predict", str(net), str(net), "--surrogate", str(checkpoint), "--json"]) == 0
    first, second = printed.json()  # type: ignore[misc]
    assert first["predictions"] == second["predictions"]
    # both metrics are linear in the operator counts, so least squares finds them
    assert first["predictions"]["zcp_convs"]["mean"] == pytest.approx(1.0, abs=1e-6)
    space = search_spaces.get("nasbench201")
    assert first["predictions"]["macs"]["mean"] == pytest.approx(count_macs(space.to_onnx(space.parse(ARCH))), rel=1e-6)
    assert set(first["predictions"]["macs"]["quantiles"]) == {"0.05", "0.5", "0.95"}


def test_train_judges_on_networks_not_seen(tmp_path: Path, labels: Path, printed: Printed) -> None:
    out = tmp_path / "out"
    options = ["--labels", str(labels), "--surrogate", "linear", "--size", "100", "--json"]
    assert main(["train", "nasbench201", "--metrics", "macs", "--out", str(out), *options]) == 0
    found = printed.json()
    assert found["labels"] == 100  # type: ignore[index]
    assert found["held_out"][0]["held out"] == 20  # type: ignore[index]
    # exact up to rounding, which orders networks of equal cost at random: hence the tau
    assert found["held_out"][0]["mean_error"] < 1  # type: ignore[index]
    assert found["held_out"][0]["kendall_tau"] > 0.9  # type: ignore[index]
    assert registry.load(out).metrics == ("macs",)


def test_finetune_starts_from_a_checkpoint(tmp_path: Path, checkpoint: Path, labels: Path, printed: Printed) -> None:
    out = tmp_path / "tuned"
    options = ["--labels", str(labels), "--metrics", "zcp_convs", "--size", "2", "--out", str(out), "--json"]
    assert main(["finetune", str(checkpoint), "nasbench201", *options]) == 0
    assert registry.load(out).metrics == ("zcp_convs",)
    # two labels alone could not teach it: what it knew before is still there
    assert printed.json()["held_out"][0]["mean_error"] < 1e-6  # type: ignore[index]


def test_finetune_refuses_what_cannot_be_tuned(
    tmp_path: Path, checkpoint: Path, labels: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("linear_surrogate.LinearSurrogate.finetune")
    options = ["--labels", str(labels), "--metrics", "macs", "--out", str(tmp_path / "tuned")]
    assert "use `nasrlm train`" in printed.error(["finetune", str(checkpoint), "nasbench201", *options])
    assert not (tmp_path / "tuned").exists()


def test_search_writes_front_report_and_record(searched: Path) -> None:
    assert {path.name for path in searched.iterdir()} >= {
        "front.csv",
        "evaluations.csv",
        "run.json",
        "front.png",
        "report.html",
        "ledger.sqlite",
    }
    front = pd.read_csv(searched / "front.csv")
    space = search_spaces.get("nasbench201")
    for row in front.itertuples():
        assert row.zcp_convs == pytest.approx(row.arch.count("nor_conv"), abs=1e-6)
        assert row.macs == pytest.approx(count_macs(space.to_onnx(space.parse(row.arch))), rel=1e-6)
    assert json.loads((searched / "run.json").read_text())["config"]["seed"] == 3


def test_search_is_resumed_or_refused(searched: Path, checkpoint: Path, printed: Printed) -> None:
    before = (searched / "front.csv").read_bytes()
    assert "already holds" in printed.error(search_command(checkpoint, searched))
    assert main([*search_command(checkpoint, searched), "--resume"]) == 0
    assert (searched / "front.csv").read_bytes() == before


def test_report_is_written_again(searched: Path, printed: Printed) -> None:
    before = (searched / "report.html").read_bytes()
    (searched / "report.html").unlink()
    assert main(["report", str(searched)]) == 0
    assert (searched / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "nasbench202", ARCH, "-o", "x.onnx"], "unknown search space 'nasbench202'"),
        (["export", "nasbench201", "|none~0|", "-o", "x.onnx"], "no NAS-Bench-201 cell"),
        (["export", "nasbench201", ARCH.replace("none", "nine"), "-o", "x.onnx"], "unknown operation 'nine'"),
        (["export", "nasbench201", ARCH], "Missing option"),
        (["export", "nasbench201", ARCH, "-o", "x.onnx", "--seed", "many"], "--seed"),
        (["export", "nasbench201", ARCH, "-o", "no/such/folder/x.onnx"], "no/such/folder"),
        (["predict", "none.onnx"], "none.onnx: no such file"),
        (["predict", "text.onnx"], "text.onnx is not an ONNX file"),
        (["predict", "empty.onnx"], "empty.onnx is not an ONNX file"),
        (["predict", "net.onnx", "--metrics", "cifar11", "--surrogate", "checkpoint"], "'cifar11'"),
        (["predict", "net.onnx", "--given", "params", "--surrogate", "checkpoint"], "name=number"),
        (["predict", "net.onnx", "--surrogate", "no_such"], "'no_such'"),
        (["predict", "net.onnx", "--surrogate", "text.onnx"], "is a file"),
        (["predict", "net.onnx", "--surrogate", "empty_folder"], "holds no config.json"),
        (["predict", "net.onnx", "--surrogate", "newer"], "version 99"),
        (["predict", "net.onnx", "--surrogate", "newer_rlm"], "format 99"),
        (["predict", "net.onnx", "--surrogate", "foreign"], "unknown surrogate 'psychic'"),
        (["predict", "net.onnx", "--surrogate", "broken"], "not JSON"),
        (["text", "text.onnx"], "not an ONNX file"),
        ([*TRAIN, "beauty"], "unknown metric 'beauty'"),
        ([*TRAIN, "params"], "lacks the columns params"),
        ([*TRAIN, ""], "nothing to learn"),
        ([*TRAIN, "macs", "--labels", "none.csv"], "none.csv: no such file"),
        ([*TRAIN, "macs", "--labels", "text.csv"], "text.csv lacks the columns"),
        ([*TRAIN, "macs", "--labels", "no_table"], "unknown table 'no_table'"),
        ([*TRAIN, "cifar10_test", "--labels", "table"], "nasbench201.parquet not found"),
        ([*TRAIN, "macs", "--out", "full"], "already holds"),
        ([*TRAIN, "macs", "--size", "1000"], "120 labelled networks"),
        ([*TRAIN, "macs", "--surrogate", "psychic"], "unknown surrogate 'psychic'"),
        ([*TRAIN, "macs", "--option", "epoch=1"], "Did you mean 'epochs'"),
        ([*TRAIN, "macs", "--option", "epochs=few"], "epochs=few"),
        (["finetune", "no_such", "nasbench201", "--metrics", "macs", "--out", "new"], "'no_such'"),
        (["search", "nasbench202", *SEARCH[2:], "macs"], "unknown search space 'nasbench202'"),
        ([*SEARCH, "beauty"], "unknown metric 'beauty'"),
        ([*SEARCH, "macs,abacus_latency_ms"], "abacus_latency_ms"),
        ([*SEARCH, "macs", "--labels", "guess"], "'guess'"),
        ([*SEARCH, "macs", "--labels", "table", "--budget", "10"], "nasbench201.parquet not found"),
        ([*SEARCH, "macs", "--budget", "-1"], "budget"),
        (["report", "full"], "no finished search"),
        (["demo", "--out", "full"], "no demo"),
        (["data", "verify", "no_table"], "unknown table"),
        (["sing"], "No such command"),
        (["spaces", "--yaml"], "No such option"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_errors_are_one_line_and_change_nothing(
    tmp_path: Path,
    labels: Path,
    checkpoint: Path,
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASRLM_DATA", str(tmp_path))
    assert main(["export", "nasbench201", ARCH, "-o", "net.onnx"]) == 0
    Path("labels.csv").write_bytes(labels.read_bytes())
    Path("text.csv").write_text("nothing,here\n1,2\n")
    Path("text.onnx").write_text("this is not protobuf at all")
    Path("empty.onnx").write_bytes(b"")
    configs = {
        "newer": '{"surrogate": "linear", "version": 99}',
        "newer_rlm": '{"surrogate": "rlm", "format_version": 99}',
        "foreign": '{"surrogate": "psychic"}',
        "broken": "{",
        "full": "{}",
    }
    for name, content in configs.items():
        Path(name).mkdir()
        Path(name, "config.json").write_text(content)
    Path("empty_folder").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert words in printed.error(arguments)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_plugged_in_surrogate_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nasrlm.surrogates]\nplugged = linear_surrogate:LinearSurrogate\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "plugged" in registry.names()
    assert registry.create("plugged").metrics == ()


def test_demo_replaces_only_an_earlier_demo(
    tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = nasbench201()
    metrics = [
        "cifar10_test",
        *(f"{device}_latency_ms" for device in DEVICES),
    ]
    checkpoint = tmp_path / "checkpoint"
    options = ["--surrogate", "linear", "--size", "200", "--out", str(checkpoint)]
    assert main(["train", "nasbench201", "--metrics", ",".join(metrics), *options]) == 0
    out = tmp_path / "demo"
    command = ["demo", "--out", str(out), "--surrogate", str(checkpoint), "--population", "10", "--generations", "3"]
    capsys.readouterr()
    for _ in range(2):
        assert main([*command, "--json"]) == 0
        summary = printed.json()
        assert set(summary) == set(DEVICES)  # type: ignore[call-overload]
        for device, found in summary.items():  # type: ignore[attr-defined]
            assert Path(found["report"]) == out / device / "report.html"
            assert 0 < found["hypervolume_fraction"] < 1
            front = pd.read_csv(out / device / "front.csv")
            assert len(front) == found["front"]
            truth = table.labels([table.space.parse(text) for text in front["arch"]], metrics)
            assert np.allclose(front[f"{device}_latency_ms_true"], truth[f"{device}_latency_ms"])
    (out / "demo.json").unlink()
    assert "no demo" in printed.error(command)


def test_search_buys_labels_from_the_table(tmp_path: Path, printed: Printed) -> None:
    table = nasbench201()
    out = tmp_path / "run"
    objectives = ["cifar10_test", "pixel3_latency_ms"]
    command = ["search", "nasbench201", "--objectives", ",".join(objectives), "--surrogate", "linear"]
    assert (
        main([*command, "--labels", "table", "--budget", "30", "--population", "10", "--out", str(out), "--json"]) == 0
    )
    found = printed.json()
    evaluations = pd.read_csv(out / "evaluations.csv")
    assert len(evaluations) == 30
    truth = table.labels([table.space.parse(text) for text in evaluations["arch"]], objectives)
    assert np.allclose(evaluations[objectives], truth)
    assert 0.5 < found["hypervolume_fraction"] <= 1  # type: ignore[index]


def test_data_verbs_see_the_tables(printed: Printed) -> None:
    nasbench201()
    assert main(["data", "verify", "nasbench201", "--json"]) == 0
    assert printed.json()[0]["rows"] == 15625  # type: ignore[index]
    assert main(["data", "list", "--json"]) == 0
    listed = {table["name"]: table for table in printed.json()}  # type: ignore[attr-defined]
    assert listed["nasbench201"]["rows"] == 15625
    assert "cifar10_test" in listed["nasbench201"]["metrics"]
