"""The study's rows: every config is there, and differs by what its row says."""

import pytest

from pointins_plugin.commands import fit_prior
from pointins_plugin.errors import UserError
from pointins_plugin.host import build_model, plain_values
from pointins_plugin.priors import NUM_KNOTS, MagnitudePrior
from pointins_plugin.study import ladder as module
from pointins_plugin.study.ladder import (
    ABLATIONS,
    BASELINE,
    FINETUNING,
    INSTANCES,
    LADDER,
    LINEAR,
    PRETRAINING,
    STAGES,
    WHOLE,
    Ladder,
    Unit,
)

UNCACHED = module._labelled_prior.__wrapped__


@pytest.fixture(scope="module")
def ladder():
    with pytest.MonkeyPatch.context() as patch:
        prior = {"type": "table", "table": [i * 1e-4 for i in range(NUM_KNOTS)]}
        patch.setattr(module, "_labelled_prior", lambda config: prior)
        yield Ladder.read()


def unit(ladder, row, data="mosd", seed=0):
    return Unit(data, ladder.rows[row], seed)


def changed(ladder, row, stage=PRETRAINING, data="mosd", than="pointins-spatial"):
    """Return where the model of a row differs from another row's."""

    def differences(a, b, place):
        if not (isinstance(a, dict) and isinstance(b, dict)):
            return {} if a == b else {place: b}
        found = {}
        for key in {*a, *b}:
            found.update(differences(a.get(key), b.get(key), f"{place}.{key}"))
        return found

    one, other = (
        ladder.config(unit(ladder, name, data), stage, "small") for name in (than, row)
    )
    assert {k: v for k, v in other.data.val.items() if k != "transform"} == {
        k: v for k, v in one.data.val.items() if k != "transform"
    }
    for key in ("epoch", "eval_epoch", "batch_size", "optimizer", "seed"):
        assert one[key] == other[key]
    return differences(plain_values(one.model), plain_values(other.model), "model")


@pytest.mark.parametrize("size", ["small", "quick", "narrow", "wide", "large"])
def test_every_stage_of_every_row_has_a_config(ladder, size):
    for each in ladder.units():
        if each.seed:
            continue
        for stage in each.stages():
            cfg = ladder.config(each, stage, size)
            assert cfg.seed == 0
            assert cfg.epoch % cfg.eval_epoch == 0
            assert (cfg.get("test") is None) == (stage != PRETRAINING)


def test_rows_of_the_issue_are_there(ladder):
    assert [name for name, row in ladder.rows.items() if row.part == LADDER] == [
        "scratch",
        "pointcontrast-nce",
        "sonata",
        "dos",
        "offset-only",
        "pointins-paper",
        "pointins-spatial",
        "pointins-sonata",
        "supervised-offset",
    ]
    units = ladder.units()
    of_ladder = [u for u in units if u.row.part == LADDER]
    assert len(of_ladder) == 9 * 3 * 3
    ablations = [u for u in units if u.row.part == ABLATIONS]
    assert {u.data for u in ablations} == {"mosd"}
    assert {u.seed for u in ablations} == {0, 1}
    assert [u.seed for u in of_ladder] == sorted(u.seed for u in of_ladder)


@pytest.mark.parametrize(
    ("row", "places"),
    [
        ("dos", {"model.offset_branch"}),
        ("offset-only", {"model.offset_branch.odr", "model.offset_branch.scr"}),
        ("supervised-offset", {"model.type"}),
        (
            "odr-only",
            {"model.offset_branch.scr", "model.offset_branch.exclude_planes"},
        ),
        ("scr-before-odr", {"model.offset_branch.order"}),
        ("odr-student", {"model.offset_branch.odr.mode"}),
        ("fall-back", {"model.offset_branch.scr.fallback"}),
        ("prior-half", {"model.offset_branch.prior.factor"}),
        ("rank-batch", {"model.offset_branch.odr.scope"}),
    ],
)
def test_a_row_differs_by_what_it_says(ladder, row, places):
    assert changed(ladder, row).keys() == places


def test_every_choice_of_the_spatial_preset_is_undone(ladder):
    """Together they are the paper preset: none is forgotten."""
    undone = {}
    for name, row in ladder.rows.items():
        if row.part != ABLATIONS or len(row.change) != 1:
            continue  # one choice a row
        for place, value in row.change.items():
            preset = (
                place.startswith(("model.offset_branch.scr.",)) and row.config == ""
            )
            if preset or name == "direction-axis":
                undone[place] = value
    assert changed(ladder, "pointins-paper") == undone


def test_a_replaced_prior_keeps_nothing_of_the_old_one(ladder):
    for row, kind in (("prior-log-normal", "log_normal"), ("prior-empirical", "table")):
        cfg = ladder.config(unit(ladder, row), PRETRAINING, "small")
        prior = cfg.model.offset_branch.prior
        assert prior.type == kind
        assert "shape" not in prior
        build_model({"type": "OffsetBranch", **cfg.model.offset_branch})


def test_scratch_has_no_pre_training_and_probes_a_random_backbone(ladder):
    scratch = unit(ladder, "scratch")
    assert scratch.stages()[0] == LINEAR
    for stage in (LINEAR, INSTANCES):
        cfg = ladder.config(scratch, stage, "small")
        assert cfg.hooks[0].type == "PretrainedLoader"
        assert cfg.hooks[0].required is False
    tuned = ladder.config(scratch, "finetuning100", "small")
    assert tuned.hooks[0].type == "CheckpointLoader"


@pytest.mark.parametrize("data", ["rooms", "mosd", "streets"])
def test_rows_are_tuned_alike_but_for_their_weights(ladder, data):
    random, trained = (
        ladder.config(unit(ladder, row, data), "finetuning100", "small")
        for row in ("scratch", "dos")
    )
    differ = [
        key
        for key in sorted({*random} | {*trained})
        if random.get(key) != trained.get(key)
    ]
    assert differ == ["hooks"]
    assert random.hooks[1:] == trained.hooks[1:]


def test_few_labels_take_as_many_steps(ladder):
    each = unit(ladder, "dos")
    few, all_ = (
        ladder.config(each, f"finetuning{share}", "small") for share in (10, 100)
    )
    assert few.data.train.type == "LabelEfficientDataset"
    assert few.data.train.base == all_.data.train.type
    assert few.data.train.scenes == 0.1
    assert few.epoch == 10 * all_.epoch
    assert few.model == all_.model


def test_sparse_rows_are_probed_by_sparse_configs(ladder):
    cfg = ladder.config(unit(ladder, "pointins-spunet"), INSTANCES, "small")
    assert cfg.model.backbone.type == "SpUNet-v1m1"
    pretrained = ladder.config(unit(ladder, "pointins-spunet"), PRETRAINING, "small")
    assert pretrained.model.backbone == cfg.model.backbone


def test_named_rows_run_on_named_data_whatever_their_part(ladder):
    units = ladder.units(data=["rooms"], rows=["odr-only", "dos"], seeds=[4])
    assert [u.name for u in units] == ["rooms-dos-seed4", "rooms-odr-only-seed4"]
    assert [u.data for u in ladder.units(rows=["odr-only"], seeds=[0])] == ["mosd"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ["dso"]}, "did you mean 'dos'"),
        ({"data": ["room"]}, "did you mean 'rooms'"),
    ],
)
def test_unknown_names_are_refused(ladder, options, message):
    with pytest.raises(UserError, match=message):
        ladder.units(**options)


def test_a_row_without_config_on_a_data_set_is_named(ladder):
    with pytest.raises(UserError, match="streets-pretrain-spunet, which does not"):
        ladder.config(unit(ladder, "pointins-spunet", "streets"), PRETRAINING, "small")


def test_empirical_prior_is_that_of_the_labels(tmp_path, monkeypatch):
    def fit(words):
        file = words[words.index("--out") + 1]
        assert words[words.index("--source") + 1] == "labels"
        MagnitudePrior.empirical([0.1] * 50 + [0.3] * 51).save(file)

    monkeypatch.setattr(fit_prior, "run", fit)
    prior = UNCACHED("some config")
    table = prior["table"]
    assert prior["type"] == "table"
    assert min(table) >= 0.1 - 1e-6
    assert max(table) <= 0.3 + 1e-6


def test_rows_are_compared_with_rows(ladder):
    assert {row.beside for row in ladder.rows.values()} <= ladder.rows.keys()
    other = {n: r.beside for n, r in ladder.rows.items() if r.beside != BASELINE}
    changed = {name for name, beside in other.items() if beside == WHOLE}
    assert {n: other[n] for n in other.keys() - changed} == {
        "pointins-sonata": "sonata",
        "pointins-contrast": "contrast",
        "pointins-spunet": "dos-spunet",
    }
    assert {"graph-centre", "prior-half", "scr-before-odr"} <= changed
    assert not {"odr-only", "scr-only", "offset-only"} & changed  # added to DOS


def test_a_row_beside_none_is_refused(tmp_path):
    file = tmp_path / "ladder.py"
    row = "dict(title='a', config='', beside='dso')"
    file.write_text(f"ladder = dict(rows=dict(a={row}))\nablations = dict(rows={{}})\n")
    with pytest.raises(UserError, match="row 'a' is beside 'dso'"):
        Ladder.read(file)


def test_a_config_names_its_row(ladder):
    for unit in ladder.units():
        row = unit.row
        if row.config is None or row.change or row.replace or row.empirical_prior:
            continue
        said = ladder._base(unit, PRETRAINING).read_text(encoding="utf-8")
        assert f"Row `{row.name}` of the study (docs/study.md)." in said


def test_trained_heads_and_fine_tuning_take_one_seed(ladder):
    units = ladder.units(data=["mosd"], rows=["dos"])
    assert [unit.seed for unit in units] == [0, 1, 2]
    *others, last = [unit.stages() for unit in units]
    assert others == [[PRETRAINING, LINEAR]] * 2
    assert last == [*STAGES]
    few = ladder.units(data=["mosd"], rows=["dos", "odr-only"], tuned_seeds=[1])
    tuned = {unit.name for unit in few if "finetuning10" in unit.stages()}
    assert tuned == {"mosd-dos-seed1"}


def widths(backbone):
    """Return the widths of a network's levels, and of what a frozen one hands on."""
    if "enc_channels" in backbone:
        return [*backbone.enc_channels], sum(backbone.enc_channels)
    return [backbone.base_channels, *backbone.channels], backbone.channels[-1]


@pytest.mark.parametrize("row", ["dos", "dos-spunet"])
@pytest.mark.parametrize(("size", "factor"), [("narrow", 0.5), ("wide", 2)])
def test_sizes_scale_the_network_of_either_backbone(ladder, row, size, factor):
    each = unit(ladder, row)
    usual, scaled = (ladder.config(each, PRETRAINING, s) for s in ("small", size))
    expected = [factor * width for width in widths(usual.model.backbone)[0]]
    assert widths(scaled.model.backbone)[0] == expected
    assert scaled.epoch == usual.epoch
    assert scaled.data == usual.data


@pytest.mark.parametrize("row", ["dos", "dos-spunet"])
@pytest.mark.parametrize("size", ["narrow", "wide", "large"])
def test_probes_of_a_size_take_its_pretrained_network(ladder, row, size):
    each = unit(ladder, row)
    trained = build_model(ladder.config(each, PRETRAINING, size).model).student
    shapes = {k: v.shape for k, v in trained.backbone.state_dict().items()}
    for stage in (LINEAR, *FINETUNING) if row == "dos" else (LINEAR,):
        cfg = ladder.config(each, stage, size)
        own = build_model(cfg.model).backbone.state_dict()
        assert shapes.items() <= {k: v.shape for k, v in own.items()}.items()
        handed_on = widths(cfg.model.backbone)[1]
        if stage in FINETUNING:  # by the decoder, which has the same width at all sizes
            handed_on = ladder.config(each, stage, "small").model.backbone_out_channels
        assert cfg.model.backbone_out_channels == handed_on


@pytest.mark.parametrize("size", ["small", "wide", "large"])
def test_the_linear_probe_sees_what_trained_heads_see(ladder, size):
    for row, data in (("dos", "mosd"), ("dos", "streets"), ("pointins-spunet", "mosd")):
        linear, trained = (
            ladder.config(unit(ladder, row, data), stage, size)
            for stage in (LINEAR, INSTANCES)
        )
        assert linear.data.train == trained.data.train
        assert linear.model == trained.model
