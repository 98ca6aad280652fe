"""Names of modules, and what stored pickles refer to by name, as far as one process can tell."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass

import pytest

from prefect_core import flow, importable, task
from prefect_core.entrypoints import load_flow
from prefect_core.errors import SerializationError
from prefect_core.module_names import fixed_module_name, marked, module_name_of, read_mark


@dataclass
class Point:
    x: int


@task
def double(x):
    return 2 * x


@flow
def shop():
    return double(1)


def otherwise(module_name, name):
    __import__(module_name)
    return getattr(sys.modules[module_name], name)


def test_the_fixed_name_is_found_without_loading_or_looking_for_anything(folder):
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("raise AssertionError\n")
    (folder / "pack" / "job.py").write_text("raise AssertionError\n")
    before = list(sys.path)
    assert fixed_module_name("pack/job.py") == fixed_module_name(folder / "pack" / "job.py") == "pack.job"
    assert sys.path == before
    assert "pack" not in sys.modules


@pytest.mark.parametrize(
    ("path", "name", "text"),
    [
        ("space/job.py", "space.job", "./space/job.py"),
        ("space/pack/job.py", "space.pack.job", "./space/pack/job.py"),
        ("space/pack/job.py", "job", "space/pack/./job.py"),
        ("space/pack/__init__.py", "space.pack", "./space/pack/__init__.py"),
        ("space/pack/job.py", "pack.job", "space/pack/job.py"),
        ("space/job.py", "other.job", "space/job.py"),
        ("space/job.txt", "space.job", "space/job.txt"),
    ],
)
def test_a_path_says_from_where_it_is_imported_if_its_packages_do_not(folder, path, name, text):
    (folder / "space" / "pack").mkdir(parents=True)
    (folder / "space" / "pack" / "__init__.py").touch()
    assert marked(path, name) == f"{folder}/{text}"
    place, root = read_mark(marked(path, name))
    assert place == folder / path
    assert (root is not None) == ("./" in text)
    assert root is None or fixed_module_name(place, root) == name


def test_each_file_without_a_name_to_import_has_one_of_its_own(folder):
    made = {fixed_module_name(name) for name in ("my-flows.py", "other/my-flows.py", "my-flows.txt", "random.py")}
    assert len(made) == 4
    assert all(name.isidentifier() for name in made)


def test_what_an_importable_module_defines_has_the_name_of_its_module():
    for thing in (Point, double, double.fn, shop, __name__):
        assert module_name_of(thing) == __name__
    assert double.task_key == f"{__name__}.double"
    assert module_name_of(Point(1)) == __name__
    assert module_name_of(None) == ""


def test_a_copy_of_a_task_keeps_its_key():
    @task
    def local():
        pass

    local.task_key = "elsewhere.local"
    make, arguments, kept = local.__reduce__()
    copy = make(*arguments)
    copy.__dict__.update(kept)
    assert copy.task_key == "elsewhere.local"


def test_what_pickle_can_name_itself_needs_no_reference():
    class Local:
        pass

    for thing in (Point, Local, Point(1), double, shop, shop.with_options(name="x"), otherwise, lambda: 1, print, 1):
        assert importable.reference_of(thing) is None


@pytest.mark.parametrize("decorated", [double, shop])
def test_the_function_of_a_flow_or_task_is_found_behind_it(decorated):
    load, arguments = importable.reference_of(decorated.fn)
    assert load(*arguments) is decorated.fn


def test_a_file_that_has_no_importable_name_is_referred_to_by_its_path(folder):
    (folder / "my-things.py").write_text(
        "from prefect_core import flow\n\nclass Thing:\n    pass\n\n@flow\ndef shop():\n    pass\n"
    )
    module = sys.modules[load_flow("my-things.py").__module__]
    load, arguments = importable.reference_of(module.Thing)
    assert arguments == (module.__name__, f"{folder}/my-things.py", "Thing")
    assert load(*arguments) is module.Thing
    del sys.modules[module.__name__]
    assert load(*arguments) is not module.Thing


def test_a_name_that_a_module_has_lost_is_told_with_its_file():
    with pytest.raises(SerializationError, match=f"needs 'Lost' of {__file__}, which has nothing of that name now"):
        importable.find_class(__name__, "Lost", otherwise)


def test_a_module_that_fails_when_a_stored_value_needs_it_fails_as_it_does(folder):
    (folder / "raises_attribute_error.py").write_text("None.nothing\n")
    sys.path.insert(0, str(folder))
    with pytest.raises(AttributeError, match="nothing"):
        importable.find_class("raises_attribute_error", "Thing", otherwise)


def test_references_are_plain_pickles():
    reference = importable.reference_of(double.fn)
    assert pickle.loads(pickle.dumps(reference)) == reference
