"""What the services read from the environment that the chart gives them, by their own reading."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from chart.rendering import (
    CHART,
    EXTERNAL,
    POSTGRES,
    SETS,
    Rendered,
    Values,
    merged,
    nested,
    read_values,
    refusal,
    render,
)

from services.runtime.settings import (
    ConsumerSettings,
    ProducerSettings,
    Settings,
    Sources,
    declared,
    load,
    variable,
)

pytestmark = pytest.mark.usefixtures("helm")

CLASSES: Final[dict[str, type[Settings]]] = {"producer": ProducerSettings, "consumer": ConsumerSettings}
SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]
DEFAULTS: Final = read_values(CHART / "values.yaml")


def _optional(schema: Any) -> dict[str, None]:
    """Give null for every setting that may be left out."""
    return {key: None for key in schema["properties"] if key not in schema["required"]}


def _variable(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).upper()


def _values_of(service: str, values: Values) -> dict[str, Any]:
    """Give the values under `settings` that concern a service, by variable."""
    whole = merged(DEFAULTS, values)
    found = {**whole["settings"], **whole[service]["settings"]}
    if service == "producer" and (mode := whole["producer"]["mode"]) in {"http", "mqtt"}:
        found |= whole["producer"][mode]["settings"]
    return {_variable(key): value for key, value in found.items()}


def _loaded(rendered: Rendered, service: str, folder: Path) -> Settings:
    """Have a service's own code read its environment; files of ConfigMaps are put where it finds them."""
    environment = rendered.environment(service)
    if path := environment.get("KPIS_FILE"):
        text = rendered.file(service, path)
        assert text is not None, path
        kpis = folder / "kpis.toml"
        kpis.write_text(text, encoding="utf-8")
        environment["KPIS_FILE"] = str(kpis)
    return load(CLASSES[service], Sources({}, environment, {}))


@pytest.mark.parametrize("service", CLASSES)
@pytest.mark.parametrize("name", SETS)
def test_a_service_reads_the_values_as_they_were_written(name: str, service: str, tmp_path: Path) -> None:
    """A large number stays whole, zero stays zero, and what is null is left to the service."""
    values = SETS[name]
    if service == "producer" and not merged(DEFAULTS, values)["producer"]["enabled"]:
        return
    rendered = render(values)
    settings = _loaded(rendered, service, tmp_path)
    fields = {variable(one): one for one in declared(CLASSES[service])}
    for key, value in _values_of(service, values).items():
        if key in {"BATCH_SIZE", "SLEEP_INTERVAL"} and rendered.pod(service).kind == "Job":
            continue  # see below
        field = fields[key]
        expected = field.default if value is None else field.type(value)
        assert getattr(settings, field.name) == expected, key


@pytest.mark.parametrize("service", CLASSES)
def test_numbers_are_written_as_people_write_them(service: str) -> None:
    """1000000, and not 1e+06, which is no whole number to a service."""
    values = SETS["settings"]
    found = render(values).environment(service)
    for name, value in _values_of(service, values).items():
        if isinstance(value, int):
            assert found[name] == json.dumps(value)


@pytest.mark.parametrize("service", CLASSES)
def test_a_setting_that_is_null_is_left_to_the_service(service: str) -> None:
    """Each can be, but for those that the chart itself counts on."""
    shared = _optional(SCHEMA["settings"])
    own = _optional(SCHEMA[service]["properties"]["settings"])
    assert {"logLevel", "batchSize", "sleepInterval"} <= {**shared, **own}.keys()
    found = render({"settings": shared, service: {"settings": own}}).environment(service)
    assert found.keys().isdisjoint({_variable(key) for key in {**shared, **own}})


def test_a_setting_of_what_is_sent_is_left_to_the_producer() -> None:
    """The same, of mode http."""
    own = _optional(SCHEMA["producer"]["properties"]["http"]["properties"]["settings"])
    assert {"httpCheckKpis", "lingerMs"} <= own.keys()
    values = merged(SETS["http"], nested("producer.http.settings", own))
    assert render(values).environment("producer").keys().isdisjoint({_variable(key) for key in own})


@pytest.mark.parametrize("service", CLASSES)
def test_every_setting_of_a_service_is_reachable(service: str) -> None:
    """By a value, by what the chart sets itself, or by extraEnv."""
    reached = set(_values_of(service, {}))
    everything = merged(SETS["kpis"], SETS["external-redis-tls"], SETS["postgres-tls"])
    anybody = {"producer": {"mode": "http", "http": {"anonymous": True}}}
    for mode in ({}, SETS["http-ingress"], anybody, SETS["mqtt"]):
        reached |= render(merged(everything, mode)).environment(service).keys()
    beside = sorted({variable(one) for one in declared(CLASSES[service])} - reached - OF_THE_IMAGE)
    assert set(beside) <= BY_EXTRA_ENV
    extra = [{"name": name, "value": "1"} for name in beside]
    found = render({service: {"extraEnv": extra}}).environment(service)
    assert found.keys() >= set(beside)


BY_EXTRA_ENV: Final = {"BROKER_URL", "REDIS_URL", "REDIS_PASSWORD", "METRICS_HOST"}
"""What has no value of its own: host and passwords are set apart, and probes come from outside."""

OF_THE_IMAGE: Final = {"DATA_DIR"}
"""The image says where the volume is; extraEnv may not."""


@pytest.mark.parametrize("service", CLASSES)
def test_nothing_is_set_that_a_service_does_not_read(service: str, rendered: Rendered) -> None:
    """But for what libraries read, thresholds, and what was asked for by extraEnv."""
    if not [pod for pod in rendered.lasting_pods if pod.labels["app.kubernetes.io/component"] == service]:
        return
    known = {variable(one) for one in declared(CLASSES[service])}
    others = re.compile("THRESHOLD_|OTEL_|POD_NAME|NODE_NAME$|HOST_IP$|OPERATOR_|PG[A-Z]+$")
    found = rendered.environment(service)
    assert [name for name in found if name not in known and not others.match(name)] == []


def test_the_services_find_the_redis_of_the_release() -> None:
    """By the name of its Service, each as its own user."""
    rendered = render()
    for name in CLASSES:
        found = rendered.environment(name)
        service = rendered.named("Service", found["REDIS_HOST"])
        assert found["REDIS_PORT"] == str(service["spec"]["ports"][0]["port"])
        assert found["REDIS_USERNAME"] == name


def test_the_services_find_an_external_redis(tmp_path: Path) -> None:
    """With its port, its database and its users."""
    rendered = render(SETS["external-redis"])
    for name in CLASSES:
        settings = _loaded(rendered, name, tmp_path)
        assert (settings.redis_host, settings.redis_port, settings.redis_db) == ("redis.example.com", 6379, 2)
        assert settings.redis_username == "telemetry"
        assert not settings.redis_tls
    open_one = _loaded(render(SETS["external-redis-open"]), "consumer", tmp_path)
    assert (open_one.redis_username, open_one.redis_password, open_one.redis_password_file) == ("", "", "")


@pytest.mark.parametrize("service", CLASSES)
def test_a_certificate_authority_is_where_the_service_looks_for_it(service: str, tmp_path: Path) -> None:
    """On a volume from its Secret; without one, the system's serve."""
    rendered = render(SETS["external-redis-tls"])
    settings = _loaded(rendered, service, tmp_path)
    assert (settings.redis_tls, settings.redis_port) == (True, 6380)
    pod = rendered.pod(service)
    folder, _, name = settings.redis_ca_file.rpartition("/")
    (mount,) = (one for one in pod.main["volumeMounts"] if one["mountPath"] == folder)
    (volume,) = (one for one in pod.spec["volumes"] if one["name"] == mount["name"])
    assert volume["secret"]["secretName"] == "telemetry-redis-ca"
    items: Mapping[str, str] = {one["path"]: one["key"] for one in volume["secret"].get("items", [])}
    assert items.get(name, name) == "ca.pem"
    system = _loaded(render(SETS["external-redis-tls-system-ca"]), service, tmp_path)
    assert (system.redis_tls, system.redis_ca_file) == (True, "")


def test_other_kpis_and_their_thresholds_reach_both_services(tmp_path: Path) -> None:
    """The file as it was written, and a threshold above what it says."""
    for name in CLASSES:
        kpis = _loaded(render(SETS["kpis"]), name, tmp_path).kpis
        assert {kpi: one.threshold for kpi, one in kpis.items()} == {"co2": 1000.0, "noise": 80.5}


def test_a_threshold_of_a_kpi_that_is_shipped_needs_no_file(tmp_path: Path) -> None:
    """Zero and fractions are thresholds too."""
    rendered = render({"thresholds": {"temperature": 0, "vibration": 0.25}})
    kpis = _loaded(rendered, "consumer", tmp_path).kpis
    assert (kpis["temperature"].threshold, kpis["vibration"].threshold) == (0.0, 0.25)


@pytest.mark.parametrize("service", CLASSES)
def test_extra_variables_stand_above_settings(service: str) -> None:
    """One under settings is overridden, whatever the value there."""
    extra = {service: {"extraEnv": [{"name": "BATCH_SIZE", "value": "7"}]}}
    assert render(extra).environment(service)["BATCH_SIZE"] == "7"


def test_no_password_is_in_the_environment_or_the_configuration(rendered: Rendered) -> None:
    """It comes from a Secret, by reference."""
    for pod in rendered.pods:
        for container in pod.containers:
            for one in container.get("env") or []:
                if "PASSWORD" in one["name"] and not one["name"].endswith("_FILE"):
                    assert "value" not in one, one
    for one in rendered.of("ConfigMap"):
        assert "PASSWORD" not in " ".join(name for name in one["data"] if not name.endswith("_FILE"))


def test_the_longest_batch_of_the_chart_is_that_of_the_service(tmp_path: Path) -> None:
    """A claim at its limit is accepted by both; a millisecond less is refused by both."""
    own = {"maxRetries": 2, "retryBackoffS": 1.5, "sqliteBusyTimeoutMs": 3000}
    values = {"settings": {"redisTimeoutS": 4}, "consumer": {"settings": own}}
    for store in ({}, merged(POSTGRES, nested("consumer.settings.databaseTimeoutS", 3.5))):
        whole = merged(values, store)
        settings = _loaded(render(whole), "consumer", tmp_path)
        assert isinstance(settings, ConsumerSettings)
        limit = int(settings.longest_batch_s * 1000)
        assert render(merged(whole, nested("consumer.settings.claimIdleMs", limit))).text
        said = refusal(merged(whole, nested("consumer.settings.claimIdleMs", limit - 1)))
        assert str(limit) in said, said


def test_the_file_that_is_replayed_is_where_the_producer_looks(tmp_path: Path) -> None:
    """By its path in the container, and the options after it."""
    from services.producer.options import read_options

    for name, file in (("replay-configmap", "readings.csv"), ("replay-volume", "2026/november.jsonl")):
        pod = render(SETS[name]).pod("producer")
        arguments = pod.main["args"]
        path = read_options_of(arguments)
        assert path.endswith(f"/{file}")
        (mount,) = (one for one in pod.main["volumeMounts"] if path.startswith(one["mountPath"] + "/"))
        assert mount["readOnly"] is True
        assert path.removeprefix(mount["mountPath"] + "/") == file
        assert "--resume" in arguments
        (tmp_path / "file").touch()
        assert read_options(arguments).reading is not None


def test_a_replay_goes_as_fast_as_it_can() -> None:
    """The pace of the generator is none for a file; a rate is."""
    values = merged(SETS["replay-volume"], nested("producer.settings.rate", 50))
    found = render(values).environment("producer")
    assert found.keys().isdisjoint({"BATCH_SIZE", "SLEEP_INTERVAL"})
    assert found["RATE"] == "50"


def test_a_threshold_that_is_null_is_that_of_the_file() -> None:
    """A values file may take back what another one set."""
    found = render({"thresholds": {"temperature": None}}).environment("consumer")
    assert "THRESHOLD_TEMPERATURE" not in found


def test_a_kpi_file_is_given_as_it_was_written() -> None:
    """With spaces at its beginning, and none at its end."""
    text = "\n   [co2]\nunit = 'ppm'\nmin = 0.0\nmax = 9.0\nthreshold = 1.0"
    rendered = render({"kpis": text})
    assert rendered.file("consumer", rendered.environment("consumer")["KPIS_FILE"]) == text


def test_names_of_what_is_there_may_be_templates() -> None:
    """The same values serve many releases."""
    rendered = render(
        {
            "redis": {"enabled": False},
            "externalRedis": {
                "host": "{{ .Release.Name }}.example.com",
                "existingSecret": "{{ .Release.Name }}-r",
            },
            "consumer": {"persistence": {"existingClaim": "{{ .Release.Name }}-data"}},
        }
    )
    assert rendered.environment("consumer")["REDIS_HOST"] == "demo.example.com"
    volumes = str(rendered.pod("consumer").spec["volumes"])
    assert "'demo-r'" in volumes
    assert "'demo-data'" in volumes
    own = render({"redis": {"auth": {"existingSecret": "{{ .Release.Name }}-passwords"}}})
    for component in ("producer", "consumer", "redis"):
        assert "'demo-passwords'" in str(own.pod(component).spec["volumes"]), component


def read_options_of(arguments: list[str]) -> str:
    """Give the file that a producer is told to read."""
    return arguments[arguments.index("--from") + 1]


def test_everything_that_is_external_is_left_out_of_the_release() -> None:
    """No server, no Secret, no volume for one."""
    rendered = render(EXTERNAL)
    assert rendered.of("StatefulSet") == []
    assert rendered.of("Secret") == []


def test_decimals_may_be_given_on_the_command_line() -> None:
    """`helm --set` takes 0.01 for a text: it means the same; what is no number is refused."""
    for name, text in (
        ("settings.traceSampleRatio", "0.01"),
        ("producer.settings.rate", "2.5"),
        ("thresholds.temperature", "-2.5"),
    ):
        given, meant = (render(nested(name, value)).environment("producer") for value in (text, float(text)))
        assert given == meant
    for name, text in (("settings.traceSampleRatio", "1.5"), ("producer.settings.rate", "fast")):
        assert name.rpartition(".")[2] in refusal(nested(name, text))


@pytest.mark.parametrize("service", CLASSES)
def test_traces_are_sent_where_the_values_say(service: str) -> None:
    """With the pod in every span; and without an endpoint there is no variable of OpenTelemetry."""
    found = render(SETS["otlp"]).environment(service)
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://collector.observability:4317"
    assert found["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
    assert (found["OTEL_METRICS_EXPORTER"], found["OTEL_LOGS_EXPORTER"]) == ("otlp", "otlp")
    # Kubernetes puts in what stands before: each variable has to come after those that it names.
    names = list(found)
    for name in re.findall(r"\$\((\w+)\)", found["OTEL_RESOURCE_ATTRIBUTES"]):
        assert names.index(name) < names.index("OTEL_RESOURCE_ATTRIBUTES")
    alone = render(nested("otlp.endpoint", "http://jaeger:4318")).environment(service)
    assert not alone.keys() & {"OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_EXPORTER_OTLP_HEADERS"}
    assert not [name for name in render().environment(service) if name.startswith("OTEL_")]


@pytest.mark.parametrize("component", ["audit", "test"])
def test_extra_variables_are_those_of_the_audits_too(component: str) -> None:
    """Or they would look for dead letters where the consumers keep none."""
    values = {
        "audit": {"enabled": True},
        "producer": {"extraEnv": [{"name": "RATE", "value": "3"}]},
        "consumer": {"extraEnv": [{"name": "DEAD_LETTERS", "value": "stream"}]},
    }
    (pod,) = (one for one in render(values).pods if one.labels["app.kubernetes.io/component"] == component)
    for container in pod.containers:
        names = [one["name"] for one in container.get("env") or []]
        assert len(set(names)) == len(names)
    assert {"name": "DEAD_LETTERS", "value": "stream"} in pod.main["env"]


def test_the_consumers_find_the_database_and_keep_dead_letters_there(tmp_path: Path) -> None:
    """As the Secret says, or as the values do, which stand above it; without either, SQLite and a file."""
    rendered = render(POSTGRES)
    settings = _loaded(rendered, "consumer", tmp_path)
    assert isinstance(settings, ConsumerSettings)
    assert settings.letters_in == "database"
    assert settings.pipeline_name == "telemetry/demo"
    found = rendered.environment("consumer")
    expected = {"PGHOST": "host", "PGDATABASE": "dbname", "PGUSER": "username"}
    for variable_name, key in expected.items():
        assert found[variable_name] == f"<secret pg {key}>"
    assert _file_of_a_secret(rendered, settings.database_password_file) == ("pg", "password")
    assert (found["PGPORT"], found["PGSSLMODE"], "PGSSLROOTCERT" in found) == ("5432", "prefer", False)
    of_values = {
        "host": "pg.example.com",
        "port": 5433,
        "name": "rows",
        "user": "writer",
        "pipeline": "north",
    }
    found = render(merged(POSTGRES, {"database": of_values})).environment("consumer")
    assert [found[name] for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PIPELINE_NAME")] == [
        *("pg.example.com", "5433", "rows", "writer", "north")
    ]
    own = _loaded(render(), "consumer", tmp_path)
    assert isinstance(own, ConsumerSettings)
    assert (own.database_url, own.letters_in) == ("", "file")


def _file_of_a_secret(rendered: Rendered, path: str) -> tuple[str, str]:
    """Give the Secret and the key that a file of the consumers comes from."""
    pod = rendered.pod("consumer")
    folder, _, name = path.rpartition("/")
    (mount,) = (one for one in pod.main["volumeMounts"] if one["mountPath"] == folder)
    (volume,) = (one for one in pod.spec["volumes"] if one["name"] == mount["name"])
    keys = {one["path"]: one["key"] for one in volume["secret"]["items"]}
    return volume["secret"]["secretName"], keys[name]


def test_a_secret_of_crossplanes_has_its_own_keys() -> None:
    """The host is its endpoint, and there is no name of a database in it."""
    found = render(SETS["postgres-crossplane"]).environment("consumer")
    assert (found["PGHOST"], found["PGDATABASE"]) == ("<secret telemetry-connection endpoint>", "telemetry")
    assert found["PGUSER"] == "<secret telemetry-connection username>"


def test_certificates_of_the_database_are_where_libpq_looks_for_them() -> None:
    """An authority that is named is asked, else the system's; our own key is for nobody else to read."""
    rendered = render(SETS["postgres-tls"])
    found = rendered.environment("consumer")
    assert found["PGSSLMODE"] == "verify-ca"
    assert _file_of_a_secret(rendered, found["PGSSLROOTCERT"]) == ("demo-ca", "ca.pem")
    assert _file_of_a_secret(rendered, found["PGSSLCERT"]) == ("telemetry-client", "client.crt")
    assert _file_of_a_secret(rendered, found["PGSSLKEY"]) == ("telemetry-client", "client.key")
    assert _file_of_a_secret(rendered, found["DATABASE_PASSWORD_FILE"]) == ("demo-database", "pw")
    (volume,) = (one for one in rendered.pod("consumer").spec["volumes"] if one["name"] == "database-cert")
    assert volume["secret"]["defaultMode"] == 0o440
    system = render(SETS["postgres-crossplane"]).environment("consumer")
    assert system["PGSSLMODE"] == "verify-full"
    assert system["PGSSLROOTCERT"] == "/etc/ssl/certs/ca-certificates.crt"
    named = render(merged(POSTGRES, nested("database.caSecret", "ca"))).environment("consumer")
    assert named["PGSSLMODE"] == "verify-full"


def test_users_of_a_redis_elsewhere_have_the_key_of_the_consumers() -> None:
    """The command and KEDA, where they have no name of their own."""
    external = {"host": "redis.example.com", "existingSecret": "users", "keys": {"consumer": "pw"}}
    values = {"redis": {"enabled": False}, "externalRedis": external, "consumer": {"keda": {"enabled": True}}}
    text = render(values).text
    assert "name: users, key: pw}" in text, "KEDA's"
    assert text.count("key: password") == 1, "the producer's"
