"""The one module that talks to a store: what its libraries are told, and what their errors mean."""

from __future__ import annotations

import errno
import threading

import fsspec
import pytest

from ssmd_sink_file.objects import store as store_module
from ssmd_sink_file.objects.config import AbfsConfig, GsConfig, ObjectConfig, S3Config
from ssmd_sink_file.objects.store import Put, Store, StoreFailed, StoreRefused


class Answer(Exception):
    """An error of a library that carries a status."""

    def __init__(self, **fields):
        super().__init__("as told")
        for name, value in fields.items():
            setattr(self, name, value)


NoCredentialsError = type("NoCredentialsError", (Exception,), {})


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (PermissionError("no"), StoreRefused),
        (NoCredentialsError("none"), StoreRefused),
        (Answer(status_code=403), StoreRefused),
        (Answer(code=401), StoreRefused),
        (Answer(response={"ResponseMetadata": {"HTTPStatusCode": 403}}), StoreRefused),
        (Answer(status_code=503), StoreFailed),
        (Answer(code="SlowDown"), StoreFailed),
        (OSError(errno.EIO, "remote"), StoreFailed),
        (ConnectionError("reset"), StoreFailed),
        (OSError(errno.ENOSYS, "not implemented"), store_module._Unsupported),
    ],
)
def test_errors_of_any_library_mean_one_of_few_things(error, meaning):
    assert store_module._failure(error) is meaning
    outer = RuntimeError("wrapped")
    outer.__cause__ = error
    assert store_module._failure(outer) is meaning


def test_a_cause_that_leads_to_itself_ends():
    error = RuntimeError("round")
    error.__cause__ = error
    assert store_module._failure(error) is StoreFailed


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (S3Config(bucket="market"), {"config_kwargs"}),
        (S3Config(bucket="market", region="eu"), {"config_kwargs", "client_kwargs"}),
        (S3Config(bucket="market", endpoint_url="http://x"), {"config_kwargs", "endpoint_url"}),
        (GsConfig(bucket="market", endpoint_url="http://x"), {"endpoint_url"}),
        (AbfsConfig(bucket="box"), {"connection_timeout", "read_timeout", "anon"}),
    ],
)
def test_every_library_is_told_to_cache_no_listing(config, told, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ANON", raising=False)
    options = store_module._options(config)
    assert options.pop("use_listings_cache") is False
    assert set(options) == told


def test_other_protocols_are_told_nothing_that_they_may_not_know():
    assert store_module._options(ObjectConfig(path="memory://x")) == {}


def test_digests_that_are_no_md5_are_not_taken_for_one():
    assert store_module._digests({"ETag": '"0123456789abcdef0123456789abcdef-3"'}) == set()
    assert store_module._digests({"ETag": '"D41D8CD98F00B204E9800998ECF8427E"'}) == {
        "d41d8cd98f00b204e9800998ecf8427e"
    }
    assert store_module._digests({"md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}) == {
        "d41d8cd98f00b204e9800998ecf8427e"
    }


# ── against a real server ────────────────────────────────────────────────────────


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "part"
    path.write_bytes(b"content")
    return path


def test_an_object_is_created_once(bucket, local):
    store = Store(ObjectConfig(**bucket.section))
    assert store.folders() == []
    assert store.put(local, "date=2026-11-22/feed=kalshi/a") is Put.STORED
    assert store.put(local, "date=2026-11-22/feed=kalshi/a") is Put.SAME
    local.write_bytes(b"CONTENT")
    assert store.put(local, "date=2026-11-22/feed=kalshi/a") is Put.DIFFERENT
    local.write_bytes(b"more content")
    assert store.put(local, "date=2026-11-22/feed=kalshi/a") is Put.DIFFERENT
    assert bucket.get("date=2026-11-22/feed=kalshi/a") == b"content"
    assert store.folders() == ["date=2026-11-22"]
    assert store.names("date=2026-11-22/feed=kalshi") == ["a"]


def test_what_somebody_else_created_meanwhile_is_seen(bucket, local):
    store = Store(ObjectConfig(**bucket.section))
    assert store.put(local, "x/a") is Put.STORED
    assert store.names("x") == ["a"]
    bucket.put("x/b", b"theirs")
    assert store.names("x") == ["a", "b"]


def test_two_that_create_the_same_object_at_once_leave_one(bucket, tmp_path):
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        path.write_bytes(path.name.encode())
    results = []

    def put(path):
        results.append(Store(ObjectConfig(**bucket.section)).put(path, "x/a"))

    threads = [threading.Thread(target=put, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.value for result in results) == ["different", "stored"]


def test_a_bucket_that_is_gone_is_said(bucket, local):
    store = Store(ObjectConfig(**bucket.section | {"bucket": "no-such-bucket"}))
    with pytest.raises(StoreRefused, match="no bucket no-such-bucket"):
        store.folders()
    with pytest.raises(StoreRefused, match="no s3://no-such-bucket"):
        store.put(local, "a")


def test_a_server_that_knows_no_exclusive_create_gets_each_object_once_all_the_same(
    bucket, local, monkeypatch
):
    store = Store(ObjectConfig(**bucket.section))
    real = store._fs._put_file

    async def put_file(*args, **options):
        if options.get("mode") == "create":
            raise OSError(errno.ENOSYS, "not implemented")
        return await real(*args, **options)

    monkeypatch.setattr(store._fs, "_put_file", put_file)
    assert store.put(local, "a") is Put.STORED
    assert store.put(local, "a") is Put.SAME
    local.write_bytes(b"other")
    assert store.put(local, "a") is Put.DIFFERENT


def test_a_call_that_lasts_too_long_is_given_up(bucket, monkeypatch):
    store = Store(ObjectConfig(**bucket.section))
    monkeypatch.setattr(store_module, "_CALL_SECONDS", 0.01)

    async def hang(*_args, **_options):
        import asyncio  # noqa: PLC0415  the loop of fsspec, not of the test

        await asyncio.sleep(60)

    monkeypatch.setattr(store._fs, "_info", hang)
    with pytest.raises(StoreFailed, match="did not answer within"):
        store._call("info", "x", limit_seconds=0.01)


# ── any other protocol ───────────────────────────────────────────────────────────


def test_elsewhere_an_object_gets_its_name_when_it_is_whole(memory, local, monkeypatch):
    store = Store(ObjectConfig(**memory.section))
    fs = fsspec.filesystem("memory")
    seen = []
    real = type(fs).mv
    monkeypatch.setattr(
        type(fs), "mv", lambda self, *paths: (seen.append(memory.names()), real(self, *paths))
    )
    assert store.put(local, "x/a") is Put.STORED
    assert seen == [["x/a.tmp"]]
    assert memory.names() == ["x/a"]
    assert store.put(local, "x/a") is Put.SAME


def test_elsewhere_an_empty_place_is_no_fault(memory):
    assert Store(ObjectConfig(**memory.section)).folders() == []


def test_a_local_file_that_cannot_be_read_is_no_fault_of_the_store(memory, tmp_path):
    with pytest.raises(FileNotFoundError):
        Store(ObjectConfig(**memory.section)).put(tmp_path / "none", "a")
