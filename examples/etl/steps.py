"""The steps of the ETL example: what they print is the phase's log, what they return its result."""

import csv
import datetime
import sqlite3
import zoneinfo
from collections.abc import Iterable, Iterator
from pathlib import Path

import airportsdata

FOOT_IN_METRES = 0.3048


def extract_airports(to: str) -> dict:
    """Code, name, country, elevation in feet and time zone of every airport."""
    fields = ["icao", "iata", "name", "country", "elevation", "tz"]
    airports = airportsdata.load().values()
    return _write(to, fields, ([airport[field] for field in fields] for airport in airports))


def extract_zones(to: str) -> dict:
    """Name and present offset from UTC, in hours, of every time zone."""
    now = datetime.datetime.now(datetime.UTC)
    zones = sorted(zoneinfo.available_timezones())
    rows = ([name, _hours(now.astimezone(zoneinfo.ZoneInfo(name)))] for name in zones)
    return _write(to, ["tz", "offset"], rows)


def check(airports: str, zones: str) -> dict:
    """Counts and references are plausible."""
    known = {row["tz"] for row in _read(zones)}
    rows = list(_read(airports))
    strangers = {row["tz"] for row in rows if row["tz"]} - known
    if len(rows) < 20_000 or len(known) < 300:
        raise ValueError(f"only {len(rows)} airports and {len(known)} time zones")
    print(f"{len(rows):,} airports, {len(known)} time zones; unknown zones: {sorted(strangers) or 'none'}")
    return {"airports": len(rows), "zones": len(known)}


def join(airports: str, zones: str, to: str) -> dict:
    """Every airport with its offset; feet become metres."""
    offsets = {row["tz"]: row["offset"] for row in _read(zones)}
    rows = (
        [
            row["icao"],
            row["iata"],
            row["name"],
            row["country"],
            round(float(row["elevation"]) * FOOT_IN_METRES),
            offsets.get(row["tz"], ""),
        ]
        for row in _read(airports)
    )
    return _write(to, ["icao", "iata", "name", "country", "metres", "offset"], rows)


def load(rows: str, database: str) -> dict:
    """Replace the table, all or nothing."""
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("drop table if exists airports")
        connection.execute("create table airports (icao, iata, name, country, metres integer, offset real)")
        connection.executemany(
            "insert into airports values (:icao, :iata, :name, :country, :metres, :offset)", _read(rows)
        )
        (count,) = connection.execute("select count(*) from airports").fetchone()
    connection.close()
    print(f"{count:,} rows in {database}")
    return {"rows": count}


def by_country(database: str) -> dict:
    """The ten countries with most airports."""
    return _table(database, "select country, count(*) from airports group by 1 order by 2 desc limit 10")


def highest(database: str) -> dict:
    """The five highest airports that airlines know."""
    query = "select iata || ' ' || name, metres from airports where iata <> '' order by metres desc limit 5"
    return _table(database, query)


def _table(database: str, query: str) -> dict:
    connection = sqlite3.connect(database)
    found = dict(connection.execute(query).fetchall())
    connection.close()
    for name, number in found.items():
        print(f"{name:40} {number:>8,}")
    return found


def _hours(moment: datetime.datetime) -> float:
    offset = moment.utcoffset()
    return offset.total_seconds() / 3600 if offset is not None else 0.0


def _write(to: str, header: list[str], rows: Iterable[list]) -> dict:
    path = Path(to)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        count = sum(1 for row in rows if writer.writerow(row))
    print(f"{count:,} rows in {to}")
    return {"rows": count}


def _read(path: str) -> Iterator[dict]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)
