"""Settings: sources and their precedence, origins, refusals, and secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError

from sluice.gateway.commands.show_settings import as_json_text, as_table
from sluice.gateway.settings.load import LoadedSettings, Settings, SettingsError, load_settings, option, variable
from sluice.gateway.settings.sections import LogSettings, ServerSettings
from sluice.inference.config.faults import Section, leaves
from sluice.inference.config.model_config import MIB, BatchingConfig, CacheConfig, ModelConfig, WorkersConfig

NO_VARIABLES: Mapping[str, str] = {}
SECTIONS = ", ".join(Settings.model_fields)
PORT = "expected a whole number from 0 to 65535"


class KeySettings(Section):
    """A section with secrets, as a later one will have."""

    token: SecretStr | None = Field(None, min_length=8)
    more: tuple[SecretStr, ...] = ()


class WithSecrets(Settings):
    """The tree with such a section."""

    keys: KeySettings = KeySettings()


def load(
    folder: Path, toml: str = "", environ: Mapping[str, str] = NO_VARIABLES, cli: Mapping[str, object] | None = None
) -> LoadedSettings:
    (folder / "sluice.toml").write_text(toml)
    return load_settings(cli or {}, environ=environ, folder=folder)


def problems(
    folder: Path, toml: str = "", environ: Mapping[str, str] = NO_VARIABLES, cli: Mapping[str, object] | None = None
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(folder, toml, environ, cli)
    assert all(each in str(caught.value) for each in caught.value.problems)
    return caught.value.problems


def test_defaults_need_nothing(tmp_path: Path) -> None:
    loaded = load_settings({}, environ={}, folder=tmp_path)
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert list(loaded.origins) == [key for key, _ in leaves(Settings)]
    server = loaded.settings.server
    assert (server.host, server.port, server.max_body_bytes) == ("127.0.0.1", 8000, 64 * MIB)


def test_making_settings_reads_nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SERVER_PORT", "1")
    assert Settings().server.port == 8000


def test_the_environment_is_the_processes_own_unless_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SERVER_PORT", "1")
    assert load_settings({}, folder=tmp_path).settings.server.port == 1


def test_later_sources_override_earlier_ones_key_by_key(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[server]\nhost = "0.0.0.0"\nport = 1\nmax_connections = 5\n[batching]\nmax_rows = 8\n',
        {"SLUICE_SERVER_PORT": "2", "SLUICE_SERVER_MAX_CONNECTIONS": "6", "SLUICE_LOGS_LEVEL": "debug"},
        {"server.port": "3", "logs.format": "json"},
    )
    server = loaded.settings.server
    assert (server.host, server.port, server.max_connections) == ("0.0.0.0", 3, 6)
    assert loaded.settings.batching == BatchingConfig(max_rows=8)
    changed = {key: origin for key, origin in loaded.origins.items() if origin != "default"}
    assert changed == {
        "server.host": "sluice.toml",
        "server.port": "--port",
        "server.max_connections": "SLUICE_SERVER_MAX_CONNECTIONS",
        "batching.max_rows": "sluice.toml",
        "logs.format": "--log-format",
        "logs.level": "SLUICE_LOGS_LEVEL",
    }


def test_an_option_that_was_not_given_and_an_empty_variable_count_as_unset(tmp_path: Path) -> None:
    loaded = load(tmp_path, "[server]\nport = 1\n", {"SLUICE_SERVER_PORT": ""}, {"server.port": None})
    assert loaded.settings.server.port == 1
    assert loaded.origins["server.port"] == "sluice.toml"


def test_the_defaults_of_models_are_settings(tmp_path: Path) -> None:
    environ = {"SLUICE_BATCHING_MAX_QUEUE_BYTES": "1MiB", "SLUICE_WORKERS_DEVICE": "cuda"}
    assert load(tmp_path, environ=environ).settings.model_defaults == ModelConfig(
        batching=BatchingConfig(max_queue_bytes=MIB), workers=WorkersConfig(device="cuda:0")
    )


def test_a_named_file_takes_the_place_of_sluice_toml(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text("[server]\nport = 1\nmax_connections = 1\n")
    by_option, by_variable = tmp_path / "a.toml", tmp_path / "b.toml"
    by_option.write_text("[server]\nport = 2\n")
    by_variable.write_text("[server]\nport = 3\n")
    environ = {"SLUICE_CONFIG": str(by_variable)}
    loaded = load_settings({}, environ=environ, folder=tmp_path)
    assert (loaded.settings.server.port, loaded.settings.server.max_connections) == (3, 10_000)
    assert loaded.origins["server.port"] == str(by_variable)
    loaded = load_settings({}, config_file=by_option, environ=environ, folder=tmp_path)
    assert (loaded.settings.server.port, loaded.origins["server.port"]) == (2, str(by_option))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "no.toml"
    with pytest.raises(SettingsError) as caught:
        load_settings({}, config_file=missing, environ={})
    assert caught.value.problems == (f"--config: {missing} does not exist",)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, environ={"SLUICE_CONFIG": str(missing)})
    assert caught.value.problems == (f"SLUICE_CONFIG: {missing} does not exist",)


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[server]\nport 1\n")
    assert problem.startswith(f"{tmp_path}/sluice.toml: not valid TOML: ")
    assert "line 2" in problem


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[server]\nport = 65536", f"sluice.toml: server.port = 65536: {PORT}"),
        ("[server]\nport = true", f"sluice.toml: server.port = true: {PORT}"),
        ("[server.port]\na = 1", f'sluice.toml: server.port = {{"a": 1}}: {PORT}'),
        ("server = 1", "sluice.toml: server: expected a table, [server]"),
        ('[logs]\nlevel = "loud"', 'sluice.toml: logs.level = "loud": expected "debug", "info", "warning" or "error"'),
        (
            '[batching]\nbatched = "maybe"',
            'sluice.toml: batching.batched = "maybe": expected true or false, or "unchecked"',
        ),
        (
            "[batching]\nlatency_objective_ms = 0",
            "sluice.toml: batching.latency_objective_ms = 0: expected a number above 0",
        ),
        ("[workers]\ncount = 0", "sluice.toml: workers.count = 0: expected a whole number from 1 to 64"),
        (
            "[logs]\nlevle = 1",
            "sluice.toml: logs.levle: unknown key; did you mean level? "
            f"The keys here are {', '.join(LogSettings.model_fields)}",
        ),
        (
            "port = 1",
            f"sluice.toml: port: unknown key; did you mean server.port? The keys here are {SECTIONS}",
        ),
        (
            "[sevrer]\nport = 1",
            f"sluice.toml: sevrer: unknown key; did you mean server? The keys here are {SECTIONS}",
        ),
        ("[zzz]", f"sluice.toml: zzz: unknown key; the keys here are {SECTIONS}"),
    ],
)
def test_faults_of_the_file(tmp_path: Path, toml: str, expected: str) -> None:
    assert problems(tmp_path, toml) == (expected,)


def test_faults_of_variables_and_options(tmp_path: Path) -> None:
    assert problems(tmp_path, environ={"SLUICE_SERVER_PORT": "http"}) == (f'SLUICE_SERVER_PORT = "http": {PORT}',)
    assert problems(tmp_path, cli={"server.port": "-1"}) == (f'--port = "-1": {PORT}',)
    (problem,) = problems(tmp_path, cli={"server.prot": "-1"})
    assert problem.startswith("--prot: unknown key; did you mean port?")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SLUICE_SERVR_PORT", "did you mean SLUICE_SERVER_PORT?"),
        ("SLUICE_SERVER_POTR", "did you mean SLUICE_SERVER_PORT?"),
        ("SLUICE_PORT", "did you mean SLUICE_SERVER_PORT?"),
        ("SLUICE_CONFG", "did you mean SLUICE_CONFIG?"),
        ("SLUICE_XYZZY", "`sluice config` lists the settings"),
    ],
)
def test_unknown_variables_are_refused(tmp_path: Path, name: str, hint: str) -> None:
    assert problems(tmp_path, environ={name: "1"}) == (f"{name}: unknown variable; {hint}",)


def test_kubernetes_service_links_are_no_settings(tmp_path: Path) -> None:
    environ = {
        "SLUICE_SERVICE_HOST": "10.0.0.1",
        "SLUICE_SERVICE_PORT": "80",
        "SLUICE_SERVICE_PORT_HTTP": "80",
        "SLUICE_PORT": "tcp://10.0.0.1:80",
        "SLUICE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "SLUICE_PORT_80_TCP_PROTO": "tcp",
        "SLUICE_PORT_80_TCP_PORT": "80",
        "SLUICE_PORT_80_TCP_ADDR": "10.0.0.1",
        "SLUICE_REDIS_SERVICE_HOST": "10.0.0.2",
        "SLUICE_SERVER_PORT": "tcp://10.0.0.3:80",  # of a service called sluice-server
    }
    assert load(tmp_path, environ=environ).settings == Settings()


def test_every_fault_of_a_load_is_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "[server]\nprot = 1\nmax_connections = 0\n",
        {"SLUICE_WORKERS_COUNT": "none", "SLUICE_SERVR_PORT": "1"},
        {"logs.level": "loud"},
    )
    starts = (
        "SLUICE_SERVR_PORT:",
        "sluice.toml: server.max_conn",
        "sluice.toml: server.prot",
        "SLUICE_WORKERS_COUNT =",
    )
    assert len(found) == 5
    assert all(problem.startswith(start) for problem, start in zip(found, (*starts, "--log-level ="), strict=True))


def test_tls_needs_both_files_and_they_must_exist(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.touch()
    whole = {f"server.{key}": str(pem) for key in ("tls_cert", "tls_key", "tls_client_ca")}
    assert load(tmp_path, cli=whole).settings.server.tls_client_ca == pem
    for key, partner in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
        expected = f"{option(f'server.{key}')}: needs server.{partner} beside it"
        assert problems(tmp_path, cli={f"server.{key}": str(pem)}) == (expected,)
    (problem,) = problems(tmp_path, cli=whole | {"server.tls_key": "no.pem"})
    assert problem == '--tls-key = "no.pem": no such file; a relative path starts at the current folder'


def test_a_root_path_is_a_plain_path(tmp_path: Path) -> None:
    for given, kept in (("/ml/sluice/", "/ml/sluice"), ("/ml", "/ml"), ("/", ""), ("", "")):
        assert load(tmp_path, cli={"server.root_path": given}).settings.server.root_path == kept
    for wrong in ("ml", "//evil.example", "/a/../b", "https://a/b", "/a b", "/" + "a" * 300):
        (problem,) = problems(tmp_path, environ={"SLUICE_SERVER_ROOT_PATH": wrong})
        assert problem.startswith(f'SLUICE_SERVER_ROOT_PATH = "{wrong}"'[:60])
        assert problem.endswith("expected a path such as /ml/sluice: letters, digits and -._~ between slashes")


@pytest.mark.parametrize("key", [key for key, field in leaves(ServerSettings) if field.annotation is float])
def test_times_are_finite_and_not_negative(tmp_path: Path, key: str) -> None:
    for value in ("-1", "inf", "nan"):
        (problem,) = problems(tmp_path, environ={variable(f"server.{key}"): value})
        assert problem.startswith(f'SLUICE_SERVER_{key.upper()} = "{value}": expected a ')


def test_every_key_has_a_variable_of_its_own_and_a_description() -> None:
    keys = dict(leaves(Settings))
    assert len({variable(key) for key in keys}) == len(keys)
    assert all(field.description for field in keys.values())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().server = ServerSettings()  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings().server.port = 1  # type: ignore[misc]


def test_secrets_are_never_printed(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text('[keys]\nmore = ["hush-one", "hush-two"]\n')
    environ = {"SLUICE_KEYS_TOKEN": "hush-hush"}
    loaded = load_settings({}, environ=environ, folder=tmp_path, tree=WithSecrets)
    assert isinstance(loaded.settings, WithSecrets)
    assert loaded.settings.keys.token is not None
    assert loaded.settings.keys.token.get_secret_value() == "hush-hush"
    for text in (as_table(loaded), as_json_text(loaded)):
        assert "hush" not in text
        assert "**********" in text
    shown = json.loads(as_json_text(loaded))
    assert shown["keys.more"]["value"] == ["**********"] * 2


def test_a_wrong_secret_is_not_told_either(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text("[keys]\nmore = [1234567]\n")
    with pytest.raises(SettingsError) as caught:
        load_settings({}, environ={"SLUICE_KEYS_TOKEN": "hush"}, folder=tmp_path, tree=WithSecrets)
    assert len(caught.value.problems) == 2
    assert "SLUICE_KEYS_TOKEN = **********" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "1234567" not in str(caught.value)


def test_what_is_measured_at_load_is_not_set_by_default() -> None:
    settings = Settings()
    assert settings.batching.max_rows is None
    assert settings.batching.latency_objective_ms is None
    assert (settings.workers.count, settings.workers.intra_op_threads) == (None, None)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("unchecked", "unchecked")])
def test_batching_is_demanded_or_forbidden_by_a_variable_too(tmp_path: Path, text: str, value: bool | str) -> None:
    assert load(tmp_path, environ={"SLUICE_BATCHING_BATCHED": text}).settings.batching.batched == value


def test_the_address_of_redis_is_a_secret(tmp_path: Path) -> None:
    loaded = load(tmp_path, environ={"SLUICE_CACHE_REDIS_URL": "rediss://gate:s3cret@h:6380/0"})
    address = loaded.settings.cache.redis_url
    assert address is not None
    assert address.get_secret_value() == "rediss://gate:s3cret@h:6380/0"
    for text in (as_table(loaded), as_json_text(loaded), repr(loaded.settings)):
        assert "s3cret" not in text
        assert "gate" not in text.replace("sluice-gateway", "")


@pytest.mark.parametrize(
    "address", ["http://h", "h:6379", "redis://", "redis:///", "unix://", "redis+cluster://", "cluster://h"]
)
def test_an_address_that_is_none_of_redis_is_refused_without_being_shown(tmp_path: Path, address: str) -> None:
    [told] = problems(tmp_path, environ={"SLUICE_CACHE_REDIS_URL": address + "?password=s3cret"})
    assert "redis://127.0.0.1:6379/0" in told
    assert "s3cret" not in told


def test_a_model_is_told_of_its_own_keys_of_the_cache_alone(tmp_path: Path) -> None:
    environ = {"SLUICE_CACHE_TTL_S": "5", "SLUICE_CACHE_MEMORY_BYTES": "1MiB", "SLUICE_CACHE_ENABLED": "false"}
    settings = load(tmp_path, environ=environ).settings
    assert settings.cache.memory_bytes == MIB
    assert settings.model_defaults.cache == CacheConfig(ttl_s=5.0, enabled=False)


@pytest.mark.parametrize(
    ("name", "text"), [("ENABLED", "yes"), ("ADAPTIVE", "1"), ("SCOPE", "rows"), ("TTL_S", "0"), ("TTL_S", "inf")]
)
def test_values_that_the_cache_does_not_know(tmp_path: Path, name: str, text: str) -> None:
    assert len(problems(tmp_path, environ={f"SLUICE_CACHE_{name}": text})) == 1


@pytest.mark.parametrize("name", ["SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT"])
def test_a_platform_says_which_port_its_containers_listen_on(tmp_path: Path, name: str) -> None:
    loaded = load(tmp_path, "[server]\nport = 1\n", {name: "8080"})
    assert (loaded.settings.server.port, loaded.origins["server.port"]) == (8080, name)
    assert load(tmp_path, "", {name: "8080", "SLUICE_SERVER_PORT": "2"}).settings.server.port == 2
    assert problems(tmp_path, environ={name: "http"}) == (f'{name} = "http": {PORT}',)


def test_places_that_weights_may_lie_in_are_paths(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[models]\nallow = ["/a", "b/w.bin"]\nstrict = true\n').settings.models
    assert (loaded.allow, loaded.strict) == ((Path("/a"), Path("b/w.bin")), True)
    loaded = load(
        tmp_path, environ={"SLUICE_MODELS_ALLOW": "/c:/d e::", "SLUICE_MODELS_STRICT": "false"}
    ).settings.models
    assert (loaded.allow, loaded.strict) == ((Path("/c"), Path("/d e")), False)


def test_a_folder_that_cannot_be_looked_into_has_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", denied)  # root may look everywhere
    loaded = load(tmp_path)
    assert loaded.unseen == (
        f"{tmp_path}/sluice.toml cannot be looked for: Permission denied; no settings were read from it"
    )
    assert loaded.settings == Settings()
    with pytest.raises(SettingsError, match=r"--config: x.toml cannot be looked for: Permission denied"):
        load_settings({}, config_file=Path("x.toml"), environ={})


@pytest.mark.parametrize(
    ("cli", "told"),
    [
        ({"server.port": 9, "server.grpc_port": 9}, "--port: is 9, as server.grpc_port is"),
        ({"server.port": 9, "server.management_port": 9}, "--port: is 9, as server.management_port is"),
        ({"server.grpc_port": 9, "server.management_port": 9}, "--grpc-port: is 9, as server.management_port is"),
    ],
)
def test_two_doors_on_one_port_are_named(tmp_path: Path, cli: Mapping[str, object], told: str) -> None:
    assert problems(tmp_path, cli=cli) == (f"{told}; each needs a port of its own",)
