"""open_clip without what plain towers never use, which takes most of the time of importing it.

open_clip imports timm and transformers where they are installed, for towers made of them, and some modules of
torchvision, whose package brings in its models, its operators and torch's compiler. `import_plain` leaves out timm and
transformers, as open_clip allows for, and takes torchvision's modules alone: the package is initialised when anything
else is asked of it. For a command that loads plain towers and ends; `import_rest` makes up for it where that was wrong.
"""

import importlib
import importlib.util
import sys

OPTIONAL = ("timm", "transformers")
PACKAGES = ("torchvision", "torchvision.ops")
USERS = ("timm_model", "hf_model")  # modules of open_clip that use what is optional


def import_plain() -> None:
    """Import open_clip for towers of its own, unless it or what it uses is there already."""
    before = set(sys.modules)
    if before & {"open_clip", *OPTIONAL, *PACKAGES}:
        return
    try:
        for name in PACKAGES:
            _begin(name)
        sys.modules.update(dict.fromkeys(OPTIONAL))  # None: importing it raises ImportError
        importlib.import_module("open_clip")
    except Exception:  # a version that needs more than these do today
        for name in [name for name in sys.modules if name.partition(".")[0] in ("open_clip", "torchvision")]:
            del sys.modules[name]
    finally:
        for name in OPTIONAL:
            sys.modules.pop(name, None)


def import_rest() -> None:
    """Give open_clip what `import_plain` left out, for towers made of timm or transformers."""
    for name in USERS:
        module = sys.modules.get(f"open_clip.{name}")
        if module is not None and any(getattr(module, one, True) is None for one in OPTIONAL):
            importlib.reload(module)  # in its own namespace, where the classes that are in use look


def _begin(name: str) -> None:
    """Put a package into place whose modules can be imported, and which is initialised when more is asked of it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    loader, package = spec.loader, importlib.util.module_from_spec(spec)

    def initialised(attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__getattr__ = initialised
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)
