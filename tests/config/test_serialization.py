"""Settings survive their files, and whatever cannot be in one is refused with its place."""

import json
import tomllib
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.checks import MAX_SIDE
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import PRESETS
from megavit.config.recipe import (
    MAX_DURATION,
    AugmentRecipe,
    Balance,
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Precision,
    Recipe,
    RunRecipe,
    ScheduleKind,
    ScheduleRecipe,
)
from megavit.config.serialization import dump_toml, from_dict, merge, parse_json, read_toml, to_dict
from megavit.config.vit import ZETA, Design, Mlp, Norm, Pool, Positions, ViTConfig
from megavit.errors import BundleError, ConfigError

fractions = st.floats(0, 1, exclude_max=True)
positives = st.floats(0, 1e300, exclude_min=True)
sizes = st.integers(1, 10**6)
switches = st.booleans()


def one_of_the(literal: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(literal))


def or_none(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


model_recipes = st.builds(
    ModelRecipe,
    preset=st.sampled_from(["auto", *PRESETS]),
    image_size=or_none(sizes),
    patch_size=or_none(sizes),
    channels=st.sampled_from([None, 1, 3]),
    dropout=fractions,
    drop_path=fractions,
)
data_recipes = st.builds(
    DataRecipe,
    val=st.floats(0, 0.49),
    test=st.floats(0, 0.5),
    seed=st.integers(0, 2**80),
    balance=one_of_the(Balance),
)
augment_recipes = st.builds(
    AugmentRecipe,
    crop=st.floats(0, 1, exclude_min=True),
    flip=switches,
    rotate=st.floats(0, 180),
    shift=fractions,
    color=fractions,
    mixup=st.floats(0, 10),
    cutmix=st.floats(0, 10),
)
optimizer_recipes = st.builds(
    OptimizerRecipe,
    learning_rate=positives,
    weight_decay=st.floats(0, 10),
    beta1=fractions,
    beta2=fractions,
    clip_norm=positives,
    ema=fractions,
    label_smoothing=fractions,
)
schedule_recipes = st.builds(ScheduleRecipe, kind=one_of_the(ScheduleKind), warmup=fractions, hold=fractions)
run_recipes = st.builds(
    RunRecipe,
    epochs=or_none(st.integers(1, MAX_DURATION)),
    minutes=st.floats(0, MAX_DURATION, exclude_min=True),
    batch_size=or_none(sizes),
    seed=st.integers(0, 2**80),
    device=st.sampled_from(["auto", "cpu", "cuda", "cuda:7"]),
    precision=one_of_the(Precision),
    checkpoint_seconds=positives,
    workers=or_none(st.integers(0, 99)),
)
recipes = st.builds(
    Recipe,
    model=model_recipes,
    data=data_recipes,
    augment=augment_recipes,
    optimizer=optimizer_recipes,
    schedule=schedule_recipes,
    run=run_recipes,
)
designs = st.builds(
    Design,
    block=st.sampled_from(["parallel", "serial"]),
    qk_norm=switches,
    qkv_bias=switches,
    norm=one_of_the(Norm),
    norm_bias=switches,
    mlp=one_of_the(Mlp),
    positions=one_of_the(Positions),
    registers=st.integers(0, 8),
    layer_scale=or_none(positives),
    drop_path=fractions,
    patch_drop=fractions,
) | st.just(ZETA)


@st.composite
def vit_configs(draw: st.DrawFn) -> ViTConfig:
    patch = draw(st.integers(1, 32) | st.tuples(st.integers(1, 32), st.integers(1, 32)))
    height, width = (patch, patch) if isinstance(patch, int) else patch
    image = (height * draw(st.integers(1, 20)), width * draw(st.integers(1, 20)))
    heads = draw(st.integers(1, 8))
    return ViTConfig(
        image_size=image,
        patch_size=patch,
        num_classes=draw(st.integers(0, 100)),
        dim=4 * heads * draw(st.integers(1, 16)),
        depth=draw(st.integers(1, 9)),
        heads=heads,
        mlp_dim=draw(sizes),
        pool=draw(one_of_the(Pool)),
        channels=draw(st.integers(1, 9)),
        dim_head=4 * draw(st.integers(1, 32)),
        dropout=draw(fractions),
        emb_dropout=draw(fractions),
        design=draw(designs),
    )


preprocessings = st.builds(
    Preprocessing,
    height=st.integers(2, MAX_SIDE),
    width=st.integers(2, MAX_SIDE),
    channels=st.sampled_from([1, 3]),
    mean=st.floats(-1e4, 1e4),
    std=st.floats(1e-6, 1e6),
)
VIT = ViTConfig(image_size=(8, 4), patch_size=2, num_classes=2, dim=8, depth=1, heads=1, mlp_dim=8)


def fault(settings: dict[str, Any], kind: type = Recipe) -> str:
    with pytest.raises(ConfigError) as caught:
        from_dict(kind, settings, "run.toml")
    return str(caught.value)


# there and back


@given(recipes | vit_configs() | preprocessings)
def test_settings_survive_toml_and_json(settings):
    kind = type(settings)
    assert from_dict(kind, tomllib.loads(dump_toml(settings)), "TOML") == settings
    assert from_dict(kind, parse_json(json.dumps(to_dict(settings)), "JSON"), "JSON") == settings


def test_every_setting_that_has_a_value_is_written():
    written = to_dict(replace(Recipe(), run=RunRecipe(epochs=3)))
    assert written["run"] == {
        "epochs": 3,
        "minutes": 10.0,
        "gradient_checkpointing": False,
        "compile": False,
        "seed": 0,
        "device": "auto",
        "precision": "auto",
        "checkpoint_seconds": 60.0,
        "log_seconds": 10.0,
    }
    assert set(written) == {"model", "data", "augment", "optimizer", "schedule", "run", "finetune", "parallel"}


def test_settings_that_are_left_out_have_their_defaults():
    assert from_dict(Recipe, {}, "run.toml") == Recipe()
    assert from_dict(Recipe, {"run": {"seed": 3}}, "run.toml") == Recipe(run=RunRecipe(seed=3))


def test_a_whole_number_will_do_where_any_number_does():
    crop = from_dict(Recipe, {"augment": {"crop": 1}}, "run.toml").augment.crop
    assert crop == 1.0
    assert isinstance(crop, float)


# refusals


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"runs": {}}, "  runs: there is no such setting"),
        ({"run": {"epoch": 3}}, "  run.epoch: there is no such setting"),
        ({"run": {"epochs": 3.0}}, "  run.epochs: input should be a valid integer, got 3.0"),
        ({"run": {"epochs": "3"}}, "  run.epochs: input should be a valid integer, got '3'"),
        ({"run": {"epochs": True}}, "  run.epochs: input should be a valid integer, got True"),
        ({"run": {"seed": False}}, "  run.seed: input should be a valid integer, got False"),
        ({"run": {"minutes": True}}, "  run.minutes: input should be a valid number, got True"),
        ({"run": {"minutes": float("nan")}}, "  run.minutes: input should be a finite number, got nan"),
        ({"run": {"minutes": float("inf")}}, "  run.minutes: input should be a finite number, got inf"),
        ({"run": {"minutes": [5]}}, "  run.minutes: input should be a valid number, got [5]"),
        (
            {"run": {"precision": "half"}},
            "  run.precision: input should be 'auto', 'float32' or 'bfloat16', got 'half'",
        ),
        ({"run": 5}, "  run: input should be an object, got 5"),
        ({"augment": {"flip": 1}}, "  augment.flip: input should be a valid boolean, got 1"),
        ({"augment": {"flip": "yes"}}, "  augment.flip: input should be a valid boolean, got 'yes'"),
        ({"augment": {"crop": 2.0}}, "  augment: crop must be a number in (0, 1], got 2.0"),
        ({"model": {"preset": 5}}, "  model.preset: input should be a valid string, got 5"),
        ({"run": {"seed": date(2026, 1, 2)}}, "  run.seed: input should be a valid integer, got '2026-01-02'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(settings, said):
    assert fault(settings).splitlines() == ["run.toml cannot be used:", said]


def test_every_fault_is_told_at_once():
    calls = fault({"run": {"seed": "0", "sed": 1}, "data": {"balance": "all"}, "x": 1}).splitlines()
    paths = [line.strip().partition(":")[0] for line in calls[1:]]
    assert sorted(paths) == ["data.balance", "run.sed", "run.seed", "x"]


def test_what_is_missing_is_named():
    settings = {key: value for key, value in to_dict(VIT).items() if key not in ("dim", "num_classes")}
    assert sorted(fault(settings, ViTConfig).splitlines()[1:]) == ["  dim: is missing", "  num_classes: is missing"]


def test_a_fault_deep_inside_has_its_whole_path():
    @dataclass(frozen=True, kw_only=True)
    class Outer:
        model: ViTConfig

    settings = {"model": to_dict(VIT) | {"design": {"registers": 1.5, "color": "red"}}}
    assert sorted(fault(settings, Outer).splitlines()[1:]) == [
        "  model.design.color: there is no such setting",
        "  model.design.registers: input should be a valid integer, got 1.5",
    ]


@pytest.mark.parametrize("size", [True, 8.5, "8", [8, 8, 8], [True, 8], None])
def test_a_size_that_is_none_is_refused(size):
    assert "image_size" in fault(to_dict(VIT) | {"image_size": size}, ViTConfig)


def test_the_refusal_of_a_size_has_no_words_of_the_library():
    assert "json-or-python" not in fault(to_dict(VIT) | {"image_size": [8.5, 8]}, ViTConfig)


# merging


def test_merge_keeps_what_is_not_named():
    base = Recipe(run=RunRecipe(epochs=7, seed=5), augment=AugmentRecipe(flip=True))
    merged = merge(base, {"run": {"seed": 6}, "data": {}}, "run.toml")
    assert merged == replace(base, run=replace(base.run, seed=6))


def test_merge_changes_nothing_that_it_is_given():
    base, changes = Recipe(), {"run": {"seed": 6}}
    merge(base, changes, "run.toml")
    assert base == Recipe()
    assert changes == {"run": {"seed": 6}}


@given(recipes, recipes)
def test_merging_all_of_another_recipe_gives_that_one_except_for_none(base, other):
    merged = merge(base, to_dict(other), "run.toml")
    assert to_dict(merged) == to_dict(merge(merged, to_dict(other), "run.toml"))
    for table in ("data", "augment", "optimizer", "schedule"):
        assert getattr(merged, table) == getattr(other, table)
    assert merged.run.epochs == (base.run.epochs if other.run.epochs is None else other.run.epochs)


def test_merge_sets_a_value_back_to_none():
    assert merge(Recipe(run=RunRecipe(epochs=7)), {"run": {"epochs": None}}, "run.toml").run.epochs is None


def test_merge_refuses_as_from_dict_does():
    with pytest.raises(ConfigError, match=r"run\.toml cannot be used:\n  run\.sed: there is no such setting"):
        merge(Recipe(), {"run": {"sed": 6}}, "run.toml")
    with pytest.raises(ConfigError, match="run: input should be an object"):
        merge(Recipe(), {"run": 6}, "run.toml")


# TOML


def test_a_toml_file_is_read(tmp_path):
    (tmp_path / "run.toml").write_bytes('[run]\r\ndevice = "cpu" # ä\r\n'.encode())
    assert read_toml(tmp_path / "run.toml") == {"run": {"device": "cpu"}}


def test_a_toml_file_saved_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "run.toml").write_text("[run]\nseed = 1\n", encoding="utf-8-sig")
    assert read_toml(tmp_path / "run.toml") == {"run": {"seed": 1}}


@pytest.mark.parametrize(
    ("text", "line"),
    [("[run]\nseed = 1\nseed = 2\n", 3), ("[run]\n\nepochs 3\n", 3), ("[run]\n[run]\n", 2), ("seed = \n", 1)],
)
def test_what_is_no_toml_is_refused_with_its_line(text, line, tmp_path):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"run\.toml cannot be read as TOML: .*line {line}"):
        read_toml(tmp_path / "run.toml")


def test_a_toml_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.toml cannot be read as TOML: .*No such file"):
        read_toml(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match=r"cannot be read as TOML: .*directory"):
        read_toml(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(ConfigError, match=r"cannot be read as TOML: .*utf-8"):
        read_toml(tmp_path / "latin.toml")


def test_a_date_where_a_number_belongs_is_refused(tmp_path):
    (tmp_path / "run.toml").write_text("[run]\nseed = 2026-01-02\n")
    assert "run.seed" in fault(read_toml(tmp_path / "run.toml"))


# JSON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 1}', "the same key appears twice"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the same key appears twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": [-Infinity]}', "-Infinity is not a JSON number"),
        ('{"a": 1e999}', "not a JSON number"),
        ('{"a": 1', "line 1"),
        ('{"a": 1}\n}', "line 2"),
        ("", "line 1"),
        (b'{"a": "\xff"}', "utf-8"),
        ("[" * 100_000, "recursion"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
    ],
)
def test_what_is_no_json_is_refused(text, said):
    with pytest.raises(BundleError, match=f"megavit.json is not valid JSON: .*{said}"):
        parse_json(text, "megavit.json", BundleError)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"a"'])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(ConfigError, match="must contain a JSON object, got"):
        parse_json(text, "a.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_an_object_comes_out_as_it_went_in(table):
    assert parse_json(json.dumps(table).encode(), "a.json") == table
