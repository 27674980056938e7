"""Networks on the Hugging Face Hub: their `hf://` names, and the files of weights that these stand for.

The package huggingface_hub does the work. It is imported when a file is asked for, no earlier.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from urllib.parse import quote, unquote

from hat_sr import __version__
from hat_sr.checkpoints.checkpoint import SUFFIXES
from hat_sr.errors import WeightsError, require

PREFIX = "hf://"
"""How names begin that are looked up on the Hub."""

WEIGHTS_NAME, CONFIG_NAME = "model.safetensors", "config.json"
"""The files of a repo that programs look for."""

_REPO = r"[\w-][\w.-]*/[\w-][\w.-]*"
_NAME = re.compile(rf"(?P<repo>{_REPO})(?:@(?P<revision>refs/pr/\d+|[^/@\s]+))?(?:/(?P<file>.+))?", re.ASCII)

_NOT_MODELS = ("buckets", "datasets", "kernels", "spaces")
"""What else the Hub holds, as the first part of a name."""

_NEXT = "connect, or unset HF_HUB_OFFLINE if it is set; or download the file elsewhere and give its path"


@dataclass(frozen=True, kw_only=True)
class HubName:
    """What an `hf://` name says."""

    repo: str
    """OWNER/REPO."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the main branch."""
    file: str | None = None
    """A .safetensors or .pth file in the repo, with its folders; None leaves the choice to `choose_weights`."""

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{quote(self.revision, safe='')}"
        return f"{PREFIX}{self.repo}{revision}" + (f"/{self.file}" if self.file else "")


def is_hub_name(source: str) -> bool:
    """Whether a name of weights begins as those on the Hub do."""
    return source.startswith(PREFIX)


def is_repo(source: str) -> bool:
    """Whether it has the form OWNER/REPO, which a path may have, too."""
    return re.fullmatch(_REPO, source, re.ASCII) is not None


def parse_name(name: str) -> HubName:
    """Take hf://OWNER/REPO, hf://OWNER/REPO/FILE or either with @REVISION after REPO apart.

    A revision with a slash is written with %2F in its place (refs/pr/N needs none). `hf://models/OWNER/REPO`, the
    Hub's long form, is the same. Raises WeightsError for anything else.
    """
    found = _NAME.fullmatch(name.removeprefix(PREFIX).removeprefix("models/"))
    if not is_hub_name(name) or found is None:
        raise WeightsError(
            f"{name!r} names no network on the Hugging Face Hub: write {PREFIX}OWNER/REPO or {PREFIX}OWNER/REPO/FILE, "
            "with @REVISION after REPO for another than the main branch"
        )
    repo, file = found["repo"], found["file"]
    revision = None if found["revision"] is None else unquote(found["revision"])
    if repo.partition("/")[0] in _NOT_MODELS:
        raise WeightsError(f"{name!r} is not among the Hub's models, where weights are: write {PREFIX}OWNER/REPO")
    for path in filter(None, (file, revision)):
        if "\\" in path or {"", ".", ".."} & set(path.split("/")):
            raise WeightsError(f"{name!r}: {path!r} must be plain names between slashes, without . and ..")
    if file is not None and not _is_weights(file):
        raise WeightsError(f"{name!r}: {file} is no file of weights: {' and '.join(SUFFIXES.values())} are read")
    return HubName(repo=repo, revision=revision, file=file)


def choose_weights(files: Iterable[str], place: str) -> str:
    """Of the files in `place`, a folder or a repo: `model.safetensors`, else the only file of weights.

    Raises WeightsError, with the candidates, if there are several or none.
    """
    candidates = sorted(filter(_is_weights, files))
    if WEIGHTS_NAME in candidates:
        return WEIGHTS_NAME
    if not candidates:
        raise WeightsError(f"{place} has no weights: no {' or '.join(SUFFIXES.values())} file is in it")
    if len(candidates) > 1:
        named = ", ".join(f"{place}/{file}" for file in candidates)
        raise WeightsError(f"{place} has no {WEIGHTS_NAME}, but several files of weights: name one of {named}")
    return candidates[0]


def fetch(name: str) -> Path:
    """The file of weights that an `hf://` name stands for, in huggingface_hub's cache; downloaded if it is not there.

    With `model.safetensors` comes the repo's config.json, if there is one. Without network, or with HF_HUB_OFFLINE=1,
    what is in the cache counts as the repo.

    Raises WeightsError if the name is malformed, if there is no such file, or if it can neither be had from the Hub nor
    from the cache; MissingExtraError if huggingface_hub is not installed.
    """
    wanted = parse_name(name)
    hub = require("huggingface_hub", extra="hub")
    constants = require("huggingface_hub.constants", extra="hub")
    errors = require("huggingface_hub.errors", extra="hub")
    try:
        path = _download(hub, wanted, wanted.file) if wanted.file else _choose(hub, errors, wanted)
        if path.name == WEIGHTS_NAME and path.parent.parent.name == "snapshots":  # at the top of the repo
            _add_config(hub, errors, wanted, commit=path.parent.name)
    except WeightsError:
        raise
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"{name}: the Hub has no model {wanted.repo} that you may see: check the name; if it is private or gated, "
            "log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(
            f"{name}: {wanted.repo} has no revision {wanted.revision!r}: give a branch, a tag or a commit"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{name} is not in the cache, {constants.HF_HUB_CACHE}, and the Hub cannot be asked "
            f"({_reason(error.__cause__ or error)}): {_NEXT}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise WeightsError(
            f"{name}: {wanted.repo} has no file {wanted.file}: see what there is, {constants.ENDPOINT}/{wanted.repo}"
        ) from error
    except Exception as error:  # huggingface_hub lets through what the HTTP library and the file system raise
        raise WeightsError(f"{name} could not be downloaded ({_reason(error)}): {_NEXT}") from error
    return path


def _download(hub: ModuleType, wanted: HubName, file: str, *, revision: str | None = None) -> Path:
    return Path(
        hub.hf_hub_download(
            wanted.repo,
            file,
            revision=revision or wanted.revision,
            library_name="hat-sr",
            library_version=__version__,
        )
    )


def _choose(hub: ModuleType, errors: ModuleType, wanted: HubName) -> Path:
    """The repo's `model.safetensors`, or else the only file of weights that it has."""
    try:
        return _download(hub, wanted, WEIGHTS_NAME)
    except errors.LocalEntryNotFoundError:  # the Hub cannot be asked
        files = _cached_files(hub, errors, wanted)
        if not any(map(_is_weights, files)):
            raise
    except errors.EntryNotFoundError:  # the Hub says that there is none
        files = hub.HfApi().list_repo_files(wanted.repo, revision=wanted.revision)
    return _download(hub, wanted, choose_weights(files, str(wanted)))


def _cached_files(hub: ModuleType, errors: ModuleType, wanted: HubName) -> list[str]:
    """What the cache has of the repo."""
    try:
        folder = Path(hub.snapshot_download(wanted.repo, revision=wanted.revision, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        return []
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _add_config(hub: ModuleType, errors: ModuleType, wanted: HubName, *, commit: str) -> None:
    """Have the config.json of the same commit beside the weights, if the repo has one."""
    if hub.try_to_load_from_cache(wanted.repo, CONFIG_NAME, revision=commit) is not None:
        return  # it is there, or known not to exist
    try:
        _download(hub, wanted, CONFIG_NAME, revision=commit)
    except errors.EntryNotFoundError:
        return


def _is_weights(file: str) -> bool:
    return PurePosixPath(file).suffix.lower() in SUFFIXES.values()


def _reason(error: BaseException) -> str:
    """The first line of a message; the name of the error where it has none."""
    return next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
