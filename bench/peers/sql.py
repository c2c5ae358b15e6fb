"""The statements by hand, for the sides that write SQL; imports nothing, so that what a side costs
to start is its own."""

from __future__ import annotations

TABLE = (
    "create table if not exists cities("
    "id text primary key not null, pop int, country text, admin1 text, name text, doc text)"
)
INDEXES = {
    "cities_pop": "cities(pop)",
    "cities_area": "cities(country, admin1)",
    "cities_name": "cities(name)",
}
CHANGES = "create table if not exists changes(n integer primary key, at int, body text)"
TEXT_SCHEMA = (
    "create table if not exists notes(n integer primary key, id text unique, text text)",
    "create virtual table if not exists notes_words using fts5"
    "(text, content='notes', content_rowid='n')",
    "create trigger if not exists notes_added after insert on notes begin "
    "insert into notes_words(rowid, text) values(new.n, new.text); end",
)
PUT = (
    "insert into cities(id, pop, country, admin1, name, doc) values(?, ?, ?, ?, ?, ?) "
    "on conflict(id) do update set pop = excluded.pop, country = excluded.country, "
    "admin1 = excluded.admin1, name = excluded.name, doc = excluded.doc"
)
LOG = "insert into changes(at, body) values(?, ?)"
PATCH = "update cities set pop = ?1, doc = json_set(doc, '$.pop', ?1) where id = ?2"
DELETE = "delete from cities where id = ?"
GET = "select doc from cities where id = ?"
# Keeps the order asked for and gives null for a missing key, as get_many does.
GET_MANY = "select t.doc from json_each(?) j left join cities t on t.id = j.value"
EQUAL = "select doc from cities where name = ?"
BETWEEN = "select doc from cities where pop between ? and ?"
COMPOUND = "select doc from cities where country = ? and admin1 = ?"
ORDER = "select doc from cities where pop > ? order by pop limit 50"
COUNT = "select count(*) from cities where pop between ? and ?"
ALL = "select doc from cities"
PUT_TEXT = "insert into notes(id, text) values(?, ?)"
SEARCH = (
    "select n.id, n.text from notes_words f join notes n on n.n = f.rowid "
    "where notes_words match ? order by rank limit 20"
)
TEXT = (
    "select n.id, n.text from notes_words f join notes n on n.n = f.rowid "
    "where notes_words match ?"
)
