"""The `itae` command: exit codes, what is printed and where pages go."""

import gzip
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL_FIT, SMALL_RUN, contents, one_line, rows_of, save_images
from PIL import Image

import itae_jax
from itae_jax import cli, experiment
from itae_jax.detection import model as models
from itae_jax.runs import directory

FOUR_DEVICES = "--xla_force_host_platform_device_count=4"
pytestmark = pytest.mark.usefixtures("tiny_network")


def command(out, *more):
    return ["run", "digits", "--classes", "6", "--out", str(out), "--set", *SMALL_RUN, *more]


def test_run_prints_its_result_and_where_the_report_is(finished_run, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(command(out)) == 0
    printed = capsys.readouterr()
    (row,) = rows_of(out / "results.csv")
    assert f"AUROC {float(row['auroc']):.4f}" in printed.out and printed.err == ""
    for said in ("too few to learn", "test images", "with compiling and calibration", "writing the report"):
        assert said in printed.out  # no step is silent
    assert printed.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert (out / "report.html").read_bytes()


def test_run_with_failed_trainings_ends_with_1_every_time(tmp_path, capsys):
    settings = ["train.learning_rate=1e6", "method.weight_decay=1e6"]
    for _ in range(2):  # the second time from results.csv alone
        assert cli.main([*command(tmp_path), *settings, "--classes", "6,8"]) == 1
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and "2 trainings failed" in printed.err
        assert "lower train.learning_rate" in printed.out
        rows = rows_of(tmp_path / "results.csv")
        assert [(row["normal_class"], row["auroc"], row["status"]) for row in rows] == [
            ("6", "", "failed"),
            ("8", "", "failed"),
        ]


def test_run_beside_another_in_the_same_directory_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    with directory.opened(out, experiment.Experiment(name="first")):
        before = contents(out)
        assert cli.main(command(out)) == 2
        assert str(out) in one_line(capsys)
        assert contents(out) == before


def test_report_may_go_elsewhere(finished_run, tmp_path, capsys):
    before, out = contents(finished_run), tmp_path / "new" / "page"
    assert cli.main(["report", str(finished_run), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"report: {out / 'report.html'}\n")
    after = contents(finished_run)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed <= set((finished_run / "figures").iterdir())


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"itae_jax {itae_jax.__version__}\n"


def test_settings_lists_each_with_its_value_and_limits(capsys):
    assert cli.main(["settings", "--set", "method.name=vae", "train.epochs=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    chosen = experiment.override(experiment.Experiment(), ["method.name=vae", "train.epochs=7"])
    assert lines[::2] == [f"{name}={value}" for name, value in experiment.flatten(chosen).items()]
    about = dict(zip(lines[::2], lines[1::2], strict=True))
    assert "at least 1, at most 65536" in about["method.latent=256"]
    assert "one of skip, error" in about["data.on_corrupt=skip"] and "knn" in about["method.name=vae"]


def test_help_needs_none_of_the_heavy_libraries():
    script = (
        "import sys, itae_jax.cli\n"
        "try: itae_jax.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'jax', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_pictures_are_drawn_whatever_backend_a_notebook_asks_for(tmp_path):
    image = save_images(tmp_path / "images", 1) / "000.png"
    command = ["transforms", "show", str(image), "--out", str(tmp_path / "x.png")]
    env = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    subprocess.run([sys.executable, "-m", "itae_jax", *command], check=True, env=env)
    assert (tmp_path / "x.png").is_file()


def test_profile_of_some_steps_is_recorded(tmp_path, capsys):
    profile, out = tmp_path / "profile", tmp_path / "out"
    assert cli.main([*command(out), "train.epochs=8", "--profile", str(profile)]) == 0
    assert f"profile: {profile}" in capsys.readouterr().out
    (trace,) = profile.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert b"traceEvents" in gzip.decompress(trace.read_bytes())
    assert list(trace.parent.glob("*.xplane.pb"))


def test_json_is_the_only_thing_on_standard_output_and_says_what_was_written(small_model, tmp_path, capsys):
    new, out = save_images(tmp_path / "new", 6, seed=5), tmp_path / "scores.csv"
    (new / "broken.png").write_bytes(b"no image")
    normal = models.load(small_model).normal

    def summary(*command):
        assert cli.main([*map(str, command), "--json"]) == 0
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 1 and printed.err.count("\n") > 1
        return json.loads(printed.out)

    found = summary("score", small_model, new, "--out", out, "--maps", tmp_path / "maps")
    rows = [row for row in rows_of(out) if row["score"]]
    paths = {"model": str(small_model), "out": str(out), "heatmaps": None, "maps": str(tmp_path / "maps")}
    rates = {
        "threshold": normal.threshold(0.05),
        "false_positive_rate": 0.2,
        "asked_false_positive_rate": 0.05,
        "num_calibration": 4,
    }
    anomalies = sum(int(row["is_anomaly"]) for row in rows)
    counts = {"num_scored": 6, "num_anomalies": anomalies, "num_unreadable": 1, "num_undrawn": 0}
    assert found == paths | rates | counts | {"undrawn_reason": "", "others": {}}

    found = summary("fit", small_model.parent / "good", "--out", small_model, *SMALL_FIT)
    expected = {"model": str(small_model), "new": False, "method": "itae", "image_shape": [16, 16, 1]}
    expected |= {"epochs": 1, "num_train": 16, "num_calibration": 4, "num_unreadable": 0}
    expected |= {"false_positive_rate": 0.2}
    assert found.pop("train_seconds") > 0 and 0 <= found.pop("surrogate_auroc") <= 1
    assert found.pop("candidates") == {}
    assert found == expected | {"threshold": normal.threshold(0.05)}

    found = summary("calibrate", small_model, new, "--out", tmp_path / "copy")
    expected |= {"model": str(tmp_path / "copy"), "num_calibration": 6, "num_unreadable": 1}
    expected |= {"false_positive_rate": 1 / 7}
    copy = models.load(tmp_path / "copy").normal
    del expected["new"], found["train_seconds"], found["surrogate_auroc"], found["candidates"]
    assert found == expected | {"threshold": copy.threshold(0.05)}
    assert cli.main(["score", str(small_model), "nowhere", "--out", str(out), "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1


def test_quiet_commands_print_errors_and_json_alone(small_model, tmp_path, capsys):
    images, new = save_images(tmp_path / "good", 20), save_images(tmp_path / "new", 3, seed=5)
    score = ["score", small_model, new, "--out", tmp_path / "scores.csv"]
    commands = [
        command(tmp_path / "run"),
        ["fit", images, "--out", tmp_path / "model", *SMALL_FIT],
        score,
        ["calibrate", small_model, new, "--out", tmp_path / "copy"],
        ["report", tmp_path / "run"],
    ]
    for words in commands:
        assert cli.main([*map(str, words), "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")
    assert cli.main([*map(str, score), "--quiet", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["num_scored"] == 3 and printed.err == ""
    assert cli.main(["score", "nowhere", str(new), "--out", str(tmp_path / "scores.csv"), "--quiet"]) == 2
    assert "nowhere" in one_line(capsys)


def test_quiet_run_with_failed_trainings_says_so(tmp_path, capsys):
    settings = ["train.learning_rate=1e6", "method.weight_decay=1e6"]
    assert cli.main([*command(tmp_path), *settings, "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "itae: 1 training failed; see above or the report\n"


def test_verbose_commands_log_devices_files_and_checkpoints_on_standard_error(tmp_path, capsys):
    images, model = save_images(tmp_path / "good", 20), tmp_path / "model"
    fit = ["fit", images, "--out", model, *SMALL_FIT, "train.checkpoint_minutes=0"]
    assert cli.main([*map(str, fit), "--verbose"]) == 0
    errors = capsys.readouterr().err
    assert all(part in errors for part in ("backend cpu", "'jax': ", f"20 images in {images}"))
    assert all(errors.count(f"saved {model}.partial/{name}") == 1 for name in ("checkpoints/1, ", "state, "))
    score = ["score", model, images, "--out", tmp_path / "scores.csv", "--verbose", "--json"]
    assert cli.main([*map(str, score)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["num_scored"] == 20 and f"read {model}/state" in printed.err
    assert cli.main([*map(str, score[:-2])]) == 0
    assert capsys.readouterr().err == ""  # it ends with the command


def itae(*words, **environment):
    """(exit code, output, errors) of a process of its own, with JAX's defaults but for the environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    command = [sys.executable, "-m", "itae_jax", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=env | environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("platform", "command"),
    [
        ("nonsense", ["devices"]),
        ("cuda", ["devices"]),
        ("nonsense", ["run", "digits", "--out", "{out}"]),
        ("cuda", ["fit", "{model}/../good", "--out", "{out}", *SMALL_FIT]),
        ("cuda", ["report", "{model}"]),
        ("nonsense", ["export", "{model}", "--out", "{out}"]),
        ("cuda", ["transforms", "check", "rotate"]),
    ],
)
def test_a_backend_that_is_not_there_is_named_in_one_line(platform, command, small_model, tmp_path):
    words = [word.format(model=small_model, out=tmp_path / "out") for word in command]
    code, printed, errors = itae(*words, JAX_PLATFORMS=platform)
    assert (code, printed) == (2, "") and errors.count("\n") == 1, errors
    assert errors.startswith(f"itae: JAX_PLATFORMS={platform}: ")
    assert ("CUDA plugin" if platform == "cuda" else "'nonsense' is not in the list of known") in errors
    assert not (tmp_path / "out").exists()


def test_devices_are_listed_with_why_there_are_no_others(tmp_path):
    code, printed, errors = itae("devices", JAX_PLATFORMS="cpu", XLA_FLAGS=FOUR_DEVICES)
    lines = printed.splitlines()
    assert (code, errors, lines[0]) == (0, "", "backend: cpu")
    assert [line.split()[0] for line in lines[1:5]] == [f"cpu:{index}" for index in range(4)]
    assert lines[5:] == ["JAX_PLATFORMS=cpu: JAX looks for no other backend"]


def test_devices_say_why_a_plugin_of_jax_fails(tmp_path):
    plugin = tmp_path / "jax_plugins" / "xla_cuda_of_test" / "__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("def initialize(): raise RuntimeError('the driver\\nis too old')")
    code, printed, errors = itae("devices", PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert (code, errors) == (0, "")
    assert "xla_cuda_of_test" in printed and "the driver is too old" in printed


def completed(script, *words):
    """What bash offers for the last of the words, by a completion script."""
    show = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}"
    line = f"{script}\n{show}; _shtab_itae 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    tests = Path(__file__).parent
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, cwd=tests)
    return done.stdout.split()


def test_bash_completes_commands_and_options(capsys):
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh", "tcsh"):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["--print-completion", shell])
        script = capsys.readouterr().out
        assert "calibrate" in script and "false-positive-rate" in script
        if shell == "bash":
            assert {"run", "fit", "devices"} <= set(completed(script, "itae", ""))
            assert completed(script, "itae", "cal") == ["calibrate"]
            assert completed(script, "itae", "score", "--heat") == ["--heatmaps"]
            assert "conftest.py" in completed(script, "itae", "score", "model", "conf")


def test_commands_parse_without_the_package_of_completion(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["settings"]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    assert "--print-completion" not in capsys.readouterr().out


def test_transforms_show_draws_what_is_erased_from_an_image_of_any_shape(tmp_path, refused):
    image, out = save_images(tmp_path, 1, size=(150, 40)) / "000.png", tmp_path / "erased.png"
    assert cli.main(["transforms", "show", str(image), "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert min(picture.size) > 300
    assert cli.main(["transforms", "show", str(image), "--out", str(out)]) == 0
    for taken in (image, tmp_path / "new.jpg"):
        assert taken.name in refused("transforms", "show", image, "--out", taken)
