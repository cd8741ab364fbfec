"""What a config may name on Pointcept: all that it may name on the standalone host."""

import importlib
import pkgutil

import pytest

import pointins_plugin.host as host
import pointins_plugin.host.standalone as standalone
from pointins_plugin.host.standalone import registry


@pytest.fixture(scope="module", autouse=True)
def _all_of_standalone():
    for module in pkgutil.walk_packages(standalone.__path__, f"{standalone.__name__}."):
        importlib.import_module(module.name)


def test_names_of_the_issue_are_registered():
    for registry_name, names in {
        "MODELS": "PointINS PointContrast DOSObjective SonataObjective "
        "ContrastObjective",
        "LOSSES": "ODRLoss SCRLoss OffsetLoss HardestContrastiveLoss PointInfoNCELoss",
        "TRANSFORMS": "TrackedAffine TrackedMultiViewGenerator",
        "HOOKS": "EMATeacherHook CollapseMonitor InstanceAPEvaluator "
        "LabelFreeInstanceEvaluator",
        "DATASETS": "RoomsDataset StreetsDataset SemanticKITTIPanopticDataset "
        "NuScenesPanopticDataset",
    }.items():
        for name in names.split():
            assert name in getattr(host, registry_name).module_dict, name


@pytest.mark.parametrize(
    "name", ["MODELS", "LOSSES", "TRANSFORMS", "DATASETS", "HOOKS", "TRAINERS"]
)
def test_nothing_of_the_standalone_host_is_missing(name):
    theirs = getattr(host, name).module_dict
    assert getattr(registry, name) is not getattr(host, name)
    assert not set(getattr(registry, name).module_dict) - set(theirs)


def test_no_tester_is_missing():
    from pointcept.engines.test import TESTERS

    assert not set(registry.TESTERS.module_dict) - set(TESTERS.module_dict)
