"""Every error of the package reaches other processes as what it is."""

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

import megavit
from megavit.errors import DivergedError, Interrupted, MegavitError

EXAMPLES = {"str": "a word", "int": 15, "float": 1.5, "bool": True}


def error_classes() -> Iterator[type[BaseException]]:
    for module in pkgutil.walk_packages(megavit.__path__, "megavit."):
        if module.name.endswith("__main__"):
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, BaseException) and found.__module__ == module.name:
                yield found


def example(kind: type[BaseException]) -> BaseException:
    """An error of this class, made as its own signature says."""
    if kind.__init__ in (Exception.__init__, MegavitError.__init__) or "__init__" not in vars(kind):
        return kind("what was wrong")
    signature = inspect.signature(kind)
    values = {
        name: EXAMPLES[str(getattr(one.annotation, "__name__", one.annotation)).partition(" ")[0]]
        for name, one in signature.parameters.items()
    }
    bound = signature.bind_partial()
    bound.arguments.update(values)
    return kind(*bound.args, **bound.kwargs)


def test_every_error_class_survives_pickling_with_all_that_it_knows():
    kinds = list(error_classes())
    assert len(kinds) >= 12 and {DivergedError, Interrupted} <= set(kinds)
    for kind in kinds:
        error = example(kind)
        error.add_note("and a note")
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(error, protocol))
            assert (type(again), str(again), again.args) == (kind, str(error), error.args)
            assert vars(again) == vars(error)


def fail() -> None:
    raise DivergedError("the loss is no number", 17)


def test_an_error_comes_out_of_another_process_as_it_was_raised():
    with ProcessPoolExecutor(1) as pool, pytest.raises(DivergedError, match="the loss is no number") as caught:
        pool.submit(fail).result()
    assert caught.value.since == 17 and caught.value.exit_code == 1
    again = pickle.loads(pickle.dumps(Interrupted("stopped", 15)))
    assert again.exit_code == 143
