"""Bad input at configuration: one clear line, exit code 4, nothing run."""

import zipfile

import pytest
from zoo import zoo_path

PASSING = "def test_nothing(): pass"


def refused(pytester, *args):
    """The one line that a usage error prints."""
    pytester.makepyfile(PASSING)
    result = pytester.runpytest(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("ERROR: ")
    assert "Traceback" not in result.stdout.str()
    return lines[0]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--drlc-min-retention=-0.5", "--drlc-min-retention=-0.5: must be a number greater than 0"),
        ("--drlc-min-retention=nan", "--drlc-min-retention=nan: must be a number greater than 0"),
        ("--drlc-min-retention=lots", "--drlc-min-retention=lots: must be a number"),
        ("--drlc-alpha=0", "--drlc-alpha=0: must be a number greater than 0 and less than 0.5"),
        ("--drlc-alpha=inf", "--drlc-alpha=inf: must be"),
        ("--drlc-max-episodes=0", "--drlc-max-episodes=0: must be a whole number >= 1"),
        ("--drlc-max-episodes=1.5", "--drlc-max-episodes=1.5: must be a whole number >= 1"),
        ("--drlc-seed=-1", "--drlc-seed=-1: must be a whole number >= 0"),
        ("--drlc-inconclusive=pass", "--drlc-inconclusive=pass: must be one of fail, xfail, skip"),
        ("--drlc-max-action-error=nan", "--drlc-max-action-error=nan: must be a number"),
        ("--drlc-variant=ptdk", "there is no compression step 'ptdk'; did you mean 'ptdq'?"),
        ("--drlc-variant=ptdq@abc", "the amount of 'ptdq' must be a number, not 'abc'"),
        ("--drlc-variant=ptdq@8", "step 'ptdq' takes no amount"),
        ("--drlc-variant=ptsq:samples=0", "samples must be greater than 0"),
        ("--drlc-variant=ptsq:equalise=true", "step 'ptsq' has no option 'equalise'"),
        ("--drlc-variant=ptsq:equalize=1", "equalize must be true or false"),
        ("--drlc-variant=ptsq:method=entropy", "method must be one of minmax, percentile"),
        ("--drlc-variant=ptsq+ptsq", "names a step twice"),
        ("--drlc-variant=ptsq+", "has an empty step"),
        ("--drlc-variant=missing.onnx", "variant 'missing.onnx': no such file"),
        ("--drlc-env=Hoper-v5", "environment 'Hoper-v5' cannot be made"),
        ("--drlc-env=Hopper-v5:pad_observation=-1", "pad_observation=-1 must be a whole number"),
        ("--drlc-env=Hopper-v5:wings=2", "environment 'Hopper-v5:wings=2' cannot be made"),
        ("--drlc-perturb=wind=3", "unknown perturbation 'wind'; known: observation_noise"),
        ("--drlc-perturb=mass=0", "perturbation mass=0.0 must be more than 0"),
        ("--drlc-workers=0", "--drlc-workers=0: must be a whole number >= 1"),
        ("--drlc-policy=sac-hoper", "policy 'sac-hoper' is not a baseline"),
        ("--drlc-policy=" + "9" * 300, "File name too long"),
        ("--drlc-policy=raising:policy --drlc-env=Hopper-v5", "calling it fails: SystemExit(7)"),
        ("--drlc-env=raising:policy", "cannot be made: 7"),
        ("--drlc-policy=missing.zip", "policy 'missing.zip': no such file"),
        ("--drlc-policy=models/*.zip", "'models/*.zip' matches no .zip"),
    ],
)
def test_an_impossible_option_is_one_clear_line(pytester, option, expected):
    pytester.makepyfile(raising="def policy():\n    raise SystemExit(7)\n")
    assert expected in refused(pytester, *option.split())


def test_the_ini_twin_is_checked_too(pytester):
    pytester.makeini("[pytest]\ndrlc_min_retention = -1\n")
    assert "drlc_min_retention=-1: must be a number greater than 0" in refused(pytester)


def test_a_truncated_zip_is_refused(pytester):
    path = pytester.path / "broken.zip"
    content = zoo_path("sac/Hopper-v3_1/Hopper-v3.zip").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "broken.zip" in refused(pytester, "--drlc-policy=broken.zip", "--drlc-env=Hopper-v5")


def test_a_zip_that_is_no_policy_is_refused(pytester):
    with zipfile.ZipFile(pytester.path / "other.zip", "w") as archive:
        archive.writestr("data", "{}")
    line = refused(pytester, "--drlc-policy=other.zip", "--drlc-env=Hopper-v5")
    assert "policy.pth" in line


def test_observations_that_do_not_fit_are_refused(pytester):
    path = zoo_path("sac/Hopper-v3_1/Hopper-v3.zip")
    wider = "Hopper-v5:exclude_current_positions_from_observation=false"
    line = refused(pytester, f"--drlc-policy={path}", f"--drlc-env={wider}")
    assert "11" in line
    assert "12" in line


def test_a_pickle_needs_trust(pytester):
    path = zoo_path("ppo/Hopper-v3_1/Hopper-v3.zip")
    line = refused(pytester, f"--drlc-policy={path}", "--drlc-env=Hopper-v5")
    assert "--drlc-trust" in line


def test_a_policy_file_needs_an_environment(pytester):
    path = zoo_path("sac/Hopper-v3_1/Hopper-v3.zip")
    assert "add --drlc-env" in refused(pytester, f"--drlc-policy={path}")


def test_usage_errors_stay_one_line_under_xdist(pytester):
    assert "ptdk" in refused(pytester, "-n2", "--drlc-variant=ptdk")


def test_the_header_shows_effective_values(pytester):
    pytester.makepyfile(PASSING)
    pytester.makeini("[pytest]\ndrlc_alpha = 0.01\ndrlc_max_episodes = 50\n")
    result = pytester.runpytest("--drlc-max-episodes=60")
    result.stdout.fnmatch_lines(["drlcompress: retention >= 0.9, alpha 0.01, at most 60 episodes*"])


def test_no_baselines_is_said_at_collection(pytester):
    gate = "def test_gate(retention): retention.check()"
    pytester.makepyfile(test_one=gate, test_two=gate)
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert said.count("there is no policy to judge") == 1
    assert "baselines holds no baseline" in said
    assert "--drlc-policy=model.zip --drlc-env=Hopper-v5" in said
    assert "Traceback" not in said
