"""TLS to a real PostgreSQL, with certificates of our own: what is refused says what to change."""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from certificates import Authority, Signed
from postgres import LocalPostgres, absent, database
from samples import row
from servers import Absent, eventually

from services.contract.errors import SinkWrong
from services.stores.postgres.rows import PostgresRows
from services.stores.postgres.sink import PostgresSink


class TlsPostgres:
    """A server that takes TLS alone, and asks the role `certified` for a certificate."""

    def __init__(self, server: LocalPostgres, authority: Authority) -> None:
        self.server = server
        self.authority = authority

    def present(self, signed: Signed) -> None:
        """Have it show this certificate from now on."""
        self._hold("server.pem", signed.certificate)
        self._hold("server.key", signed.key)
        self._reload()

    def start(self) -> None:
        """Start it, with a certificate of localhost."""
        self.server.make()
        self._hold("ca.pem", self.authority.file)
        signed = self.authority.sign("server", "DNS:localhost,IP:127.0.0.1")
        self._hold("server.pem", signed.certificate)
        self._hold("server.key", signed.key)
        (self.server.data / "pg_hba.conf").write_text(
            "local all all trust\n"
            "hostssl all certified 127.0.0.1/32 cert\n"
            "hostssl all all 127.0.0.1/32 trust\n",
            encoding="utf-8",
        )
        files = ("ssl_cert_file=server.pem", "ssl_key_file=server.key", "ssl_ca_file=ca.pem")
        self.server.start("ssl=on", *files)
        with self.admin() as admin:
            admin.execute("CREATE ROLE certified LOGIN SUPERUSER")

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connect by its socket."""
        where = f"host={self.server.folder} port={self.server.port} user=postgres dbname=postgres"
        return psycopg.connect(where, autocommit=True)

    def url(self, user: str = "postgres", **parameters: str) -> str:
        """Give its URL."""
        told = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}@localhost:{self.server.port}/postgres?{told}"

    def _hold(self, name: str, content: Path) -> None:
        path = self.server.data / name
        path.write_bytes(content.read_bytes())
        path.chmod(0o600)
        owner = self.server.data.stat()
        shutil.chown(path, owner.st_uid, owner.st_gid)

    def _reload(self) -> None:
        with self.admin() as admin:
            before = admin.execute("SELECT pg_conf_load_time()").fetchone()
            admin.execute("SELECT pg_reload_conf()")
            eventually(
                lambda: admin.execute("SELECT pg_conf_load_time()").fetchone() != before, 20, "a reload"
            )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give one, where this machine has openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[TlsPostgres]:
    """Give a server that runs."""
    try:
        server = LocalPostgres()
    except Absent as why:
        absent(why)
    try:
        tls = TlsPostgres(server, authority)
        tls.start()
        yield tls
    finally:
        server.remove()


@pytest.fixture
def tls(running: TlsPostgres) -> TlsPostgres:
    """Give it with a certificate that is right."""
    running.present(running.authority.sign("server", "DNS:localhost,IP:127.0.0.1"))
    return running


def stores(url: str) -> bool:
    """Tell whether it is encrypted, once a row was written and read there."""
    with closing(PostgresSink(database(url), time.time)) as sink:
        sink.write([row(1)])
    with PostgresRows(database(url)) as rows:
        assert rows.count() == 1
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    return bool(found and found[0])


def refusal(url: str) -> str:
    """Give the one line by which a consumer ends; a reader has the same."""
    with pytest.raises(SinkWrong) as caught:
        PostgresSink(database(url), time.time)
    with pytest.raises(SinkWrong) as read:
        PostgresRows(database(url))
    assert str(read.value) == str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_it_stores_over_tls(tls: TlsPostgres, mode: str) -> None:
    """By each mode that has it, with the authority's certificate."""
    assert stores(tls.url(sslmode=mode, sslrootcert=str(tls.authority.file)))


def test_it_stores_with_a_certificate_of_ours(tls: TlsPostgres) -> None:
    """Which says who we are: no password is needed."""
    ours = tls.authority.sign("certified", "DNS:client")
    theirs = {"sslmode": "verify-full", "sslrootcert": str(tls.authority.file)}
    assert stores(tls.url("certified", **theirs, sslcert=str(ours.certificate), sslkey=str(ours.key)))


def test_without_an_authority_require_takes_whatever_is_shown(tls: TlsPostgres, tmp_path: Path) -> None:
    """As libpq does: it hides what is sent, and proves nothing. So the page tells to use verify-full."""
    tls.present(Authority(tmp_path).sign("stranger", "DNS:elsewhere"))
    assert stores(tls.url(sslmode="require"))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_an_authority_that_nobody_knows_is_refused(tls: TlsPostgres, tmp_path: Path, mode: str) -> None:
    """Another one has signed it; `require` looks as well, once it has been given one."""
    other = Authority(tmp_path)
    line = refusal(tls.url(sslmode=mode, sslrootcert=str(other.file)))
    assert "sslrootcert names the file of the authority that has signed" in line


def test_another_name_is_refused_by_verify_full_alone(tls: TlsPostgres) -> None:
    """The line names the host that was asked for."""
    tls.present(tls.authority.sign("server", "DNS:db.example"))
    assert stores(tls.url(sslmode="verify-ca", sslrootcert=str(tls.authority.file)))
    line = refusal(tls.url(sslmode="verify-full", sslrootcert=str(tls.authority.file)))
    assert "db.example" in line
    assert "name the host as its certificate does" in line


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_certificate_that_has_expired_is_refused(tls: TlsPostgres, mode: str) -> None:
    """It is the server's owner who has to renew it."""
    tls.present(tls.authority.sign("server", "DNS:localhost", days=-1))
    line = refusal(tls.url(sslmode=mode, sslrootcert=str(tls.authority.file)))
    assert "that one has expired: renew it on the server" in line


def test_the_systems_authorities_do_not_know_it(tls: TlsPostgres) -> None:
    """Without sslrootcert, in a home that has none."""
    line = refusal(tls.url(sslmode="verify-full"))
    assert "sslrootcert" in line


def test_an_authority_that_is_no_file_is_told(tls: TlsPostgres, tmp_path: Path) -> None:
    """With the parameter that names it."""
    line = refusal(tls.url(sslmode="verify-full", sslrootcert=str(tmp_path / "none.pem")))
    assert "sslrootcert" in line


@pytest.mark.parametrize("wrong", ["none", "stranger", "name", "expired", "no key", "rights"])
def test_a_certificate_of_ours_that_is_wrong_is_refused(tls: TlsPostgres, tmp_path: Path, wrong: str) -> None:
    """Each with what to change."""
    parameters = {"sslmode": "verify-full", "sslrootcert": str(tls.authority.file)}
    if wrong != "none":
        signing = Authority(tmp_path) if wrong == "stranger" else tls.authority
        name = "somebody" if wrong == "name" else "certified"
        ours = signing.sign(name, "DNS:client", days=-1 if wrong == "expired" else 2)
        parameters |= {"sslcert": str(ours.certificate), "sslkey": str(ours.key)}
        if wrong == "no key":
            parameters["sslkey"] = str(tmp_path / "none.key")
        if wrong == "rights":
            ours.key.chmod(0o644)
    line = refusal(tls.url("certified", **parameters))
    if wrong == "name":
        assert "check user, password and pg_hba.conf" in line or "check user and password" in line
    else:
        assert "sslcert, sslkey" in line


def test_a_server_that_takes_tls_alone_refuses_what_is_plain(tls: TlsPostgres) -> None:
    """The line of the server says so."""
    line = refusal(tls.url(sslmode="disable"))
    assert "no encryption" in line
    assert "pg_hba.conf" in line
