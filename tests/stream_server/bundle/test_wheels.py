"""What wheels say, and which of a folder are needed."""

from pathlib import Path

import pytest
from wheelhouse import pip_wheel, write_server, write_wheel

from stream_server.bundle.wheels import installer, read_folder, read_wheel, select
from stream_server.errors import BundleError


def names(folder: Path) -> list[str]:
    return [wheel.path.name.partition("-py3")[0] for wheel in select(read_folder(folder))]


def test_what_the_server_needs_is_taken_and_nothing_else(tmp_path: Path) -> None:
    write_server(tmp_path, requires=("helper[fast]>=1", 'windows-only; sys_platform == "win32"'))
    write_wheel(tmp_path, "helper", "1.2", requires=('quick; extra == "fast"', 'slow; extra == "other"'))
    write_wheel(tmp_path, "quick", "3")
    write_wheel(tmp_path, "slow", "3")
    write_wheel(tmp_path, "stranger", "9")
    assert names(tmp_path) == ["helper-1.2", "quick-3", "stream_server-1.0"]


def test_the_newest_version_that_is_allowed_is_taken(tmp_path: Path) -> None:
    write_server(tmp_path, requires=("helper<2",))
    for version in ("1.9", "1.10", "2.0"):
        write_wheel(tmp_path, "helper", version)
    assert names(tmp_path) == ["helper-1.10", "stream_server-1.0"]


def test_wheels_that_require_each_other_are_taken_once(tmp_path: Path) -> None:
    write_server(tmp_path, requires=("helper",))
    write_wheel(tmp_path, "helper", "1", requires=("stream-server",))
    assert names(tmp_path) == ["helper-1", "stream_server-1.0"]


def test_what_is_missing_is_named_with_what_requires_it(tmp_path: Path) -> None:
    write_server(tmp_path)
    write_wheel(tmp_path, "helper", "1.0", requires=("deeper>=2",))
    write_wheel(tmp_path, "deeper", "1.5")
    with pytest.raises(BundleError, match=r"deeper>=2, which helper requires \(there is: deeper-1\.5-py3"):
        names(tmp_path)


def test_versions_on_which_two_cannot_agree_are_named(tmp_path: Path) -> None:
    write_server(tmp_path, requires=("first", "second"))
    write_wheel(tmp_path, "first", "1", requires=("shared<2",))
    write_wheel(tmp_path, "second", "1", requires=("shared>=2",))
    write_wheel(tmp_path, "shared", "1")
    write_wheel(tmp_path, "shared", "2")
    with pytest.raises(BundleError, match=r"requires shared.*others take shared-"):
        names(tmp_path)


@pytest.mark.parametrize(("torch", "has_triton"), [("2.0+cpu", False), ("2.0", True)])
def test_only_a_cpu_build_of_torch_goes_without_triton(tmp_path: Path, torch: str, has_triton: bool) -> None:
    write_server(tmp_path, requires=("torch", "triton"))
    write_wheel(tmp_path, "torch", torch)
    write_wheel(tmp_path, "triton", "3")
    assert ("triton-3" in names(tmp_path)) is has_triton


def test_wheels_for_other_machines_are_passed_over(tmp_path: Path) -> None:
    write_wheel(tmp_path, "helper", "1", tag="cp311-cp311-win_amd64")
    with pytest.raises(BundleError, match="no wheel for this Python and machine"):
        read_folder(tmp_path)
    with pytest.raises(BundleError, match="is not a folder"):
        read_folder(tmp_path / "nowhere")


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    (tmp_path / "helper-1-py3-none-any.whl").write_text("no zip")
    with pytest.raises(BundleError, match=r"helper-1-py3-none-any\.whl is not a wheel"):
        read_folder(tmp_path)
    (tmp_path / "helper-1-py3-none-any.whl").rename(tmp_path / "helper.whl")
    with pytest.raises(BundleError, match=r"helper\.whl is not a wheel"):
        read_folder(tmp_path)


def test_pip_is_asked_for_by_name_where_there_is_none(tmp_path: Path) -> None:
    write_server(tmp_path)
    with pytest.raises(BundleError, match="pip download pip"):
        installer(read_folder(tmp_path))
    (tmp_path / pip_wheel().name).symlink_to(pip_wheel())
    assert installer(read_folder(tmp_path)).path.name == pip_wheel().name


@pytest.mark.parametrize(
    ("tag", "glibc"),
    [
        ("py3-none-any", (0, 0)),
        ("cp311-cp311-manylinux_2_28_x86_64", (2, 28)),
        ("cp311-cp311-manylinux2014_x86_64.manylinux_2_28_x86_64", (2, 17)),
        ("cp311-cp311-linux_x86_64", (0, 0)),
    ],
)
def test_the_oldest_glibc_that_will_do_is_read_from_the_tags(
    tmp_path: Path, tag: str, glibc: tuple[int, int]
) -> None:
    assert read_wheel(write_wheel(tmp_path, "helper", "1", tag=tag)).glibc() == glibc


@pytest.mark.parametrize(
    ("metadata", "licence", "is_spdx"),
    [
        (("License-Expression: Apache-2.0 OR MIT",), "Apache-2.0 OR MIT", True),
        (("License: BSD 3-Clause",), "BSD 3-Clause", False),
        (("License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"), "MIT License", False),
        (("License: MIT License", "  a long text"), "MIT License", False),
        ((), None, False),
    ],
)
def test_the_licence_is_read_from_new_and_old_metadata(
    tmp_path: Path, metadata: tuple[str, ...], licence: str | None, is_spdx: bool
) -> None:
    wheel = read_wheel(write_wheel(tmp_path, "helper", "1", metadata=metadata))
    assert (wheel.licence, wheel.licence_is_spdx) == (licence, is_spdx)
