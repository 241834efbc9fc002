"""One flag has one meaning: the same type and help text in every command, and no meaning has two flags."""

import ast
import re
import types
import typing
from collections import defaultdict
from pathlib import Path

import megavit
from megavit.cli.app import app

ORDER = [
    *("demo", "label", "check", "pretrain", "train", "add", "remove"),
    *("evaluate", "predict", "explain", "embed", "search", "calibrate"),
    *("quantize", "export", "backbones", "convert", "push", "serve", "shard", "bench", "plan"),
]
DIFFERENT_HELP = {
    "from_": "training starts from these weights, labeling learns from their embeddings",
    "out": "what is written differs from command to command",
    "data": "shard and export take or default to other images",
    "images": "explain takes no shards",
    "classes": "label shows them on a page, convert tells them by their texts",
    "bundle": "check uses it in place of training, predict also takes exported models",
    "models": "serve takes several folders, bench presets",
    "model": "only train chooses by itself",
    "to": "each has formats of its own",
    "precision": "each has choices of its own",
    "resume": "only train extends a finished run",
    "report": "each shows what the command computes",
    "top": "predict lists classes, search lists images",
    "minutes": "check trains only the models that find label errors",
    "batch_size": "training counts the images of all processes",
    "image_size": "the defaults differ, and convert also takes HEIGHTxWIDTH",
    "patch_size": "convert also takes HEIGHTxWIDTH",
    "keep_aspect": "training sets it, the others override it",
}
DIFFERENT_TYPE = {
    "to": "each has formats of its own",
    "precision": "each has choices of its own",
    "image_size": "convert also takes HEIGHTxWIDTH",
    "patch_size": "convert also takes HEIGHTxWIDTH",
    "models": "serve takes folders, bench presets",
}


def commands() -> dict[str, dict[str, tuple[str, str]]]:
    """Type, without None, and help text of every parameter of every command."""
    found = {}
    for name in app:
        if not name.startswith("-"):
            parameters = app[name].assemble_argument_collection(parse_docstring=True)
            found[name] = {
                one.field_info.name: (without_none(one.hint), one.parameter.help or "") for one in parameters
            }
    return found


def without_none(kind: object) -> str:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        (kind,) = [one for one in typing.get_args(kind) if one is not types.NoneType]
    return str(kind)


def by_name() -> dict[str, list[tuple[str, str]]]:
    found = defaultdict(list)
    for parameters in commands().values():
        for name, parameter in parameters.items():
            found[name].append(parameter)
    return found


def test_commands_are_listed_in_the_order_of_the_work(capsys) -> None:
    app(["--help"])
    shown = capsys.readouterr().out
    positions = [shown.index(f"│ {name} ") for name in ORDER]
    assert positions == sorted(positions) and set(ORDER) == set(commands())


def test_every_parameter_has_a_help_text_that_is_a_sentence() -> None:
    for command, parameters in commands().items():
        for name, (_, text) in parameters.items():
            assert len(text.split()) >= 2 or text == "Optimizer.", (command, name)
            assert text[0].isupper() and text.endswith("."), (command, name)


def test_a_flag_of_several_commands_has_one_type_and_one_help_text() -> None:
    kinds, texts = {}, {}
    for name, found in by_name().items():
        kinds[name] = len({kind for kind, _ in found}) > 1
        texts[name] = len({text for _, text in found}) > 1
    assert {name for name, differ in kinds.items() if differ} == set(DIFFERENT_TYPE)
    assert {name for name, differ in texts.items() if differ} == set(DIFFERENT_HELP)


def test_no_two_flags_have_the_same_help_text() -> None:
    names = defaultdict(set)
    for name, found in by_name().items():
        for _, text in found:
            names[text].add(name)
    assert {text: found for text, found in names.items() if len(found) > 1} == {}


OF_OTHER_PROGRAMS = {
    *("--onnxruntime-web", "--nproc-per-node", "--only-binary", "--retries", "--timeout", "--quiet", "--prefix"),
    *("--onnx", "--strongly", "--save"),  # of trtexec, whose options go on with a capital letter
    *(
        "--disable-pip-version-check",
        "--dest",
        "--no-input",
        "--no-deps",
        "--no-cache-dir",
        "--no-fund",
        "--no-audit",
        "--ignore-scripts",
        "--logdir",
    ),
}
"""Options of pip, npm, torchrun and TensorBoard that the package names or passes."""


def test_messages_name_options_that_there_are() -> None:
    """Outside the commands too, whose functions are also called from Python."""
    known = (
        {f"--{one.removesuffix('_').replace('_', '-')}" for one in by_name()}
        | {"--help", "--no-keep-aspect"}
        | OF_OTHER_PROGRAMS
    )
    root = Path(megavit.__file__).parent
    named = {
        (str(path.relative_to(root)), option)
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", node.value)
    }
    assert len(named) > 100
    assert {(path, option) for path, option in named if option not in known} == set()
