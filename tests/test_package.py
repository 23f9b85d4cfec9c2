from __future__ import annotations

import subprocess
import sys

import pytest

import dspo_train


@pytest.mark.parametrize("name", dspo_train.__all__)
def test_public_names_are_there(name):
    assert getattr(dspo_train, name).__doc__ or name == "OBJECTIVES"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dspo_train.nothing


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, dspo_train; sys.exit(bool({'torch', 'diffusers', 'transformers'} & sys.modules.keys()) or None)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_run_loads_no_package_that_only_some_models_need():
    names = "{'diffusers', 'transformers', 'peft'}"
    code = f"import sys, dspo_train.runs.session; sys.exit(', '.join({names} & sys.modules.keys()) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_what_lists_of_runs_need_loads_no_accelerate():
    """ComfyUI imports it with the nodes, at every start."""
    code = "import sys, dspo_train.runs.keepsake; sys.exit('accelerate' in sys.modules or None)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
