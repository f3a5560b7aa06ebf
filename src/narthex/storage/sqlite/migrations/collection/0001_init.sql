create table meta(k text primary key, v text not null) strict, without rowid;

-- Ids of documents and chunks never come back: what is newer than a code file has a higher one.
create table document(
  id integer primary key autoincrement,
  uuid text not null unique,
  key text not null unique,
  description text not null,
  media_type text not null,
  name text not null,
  sha256 blob not null,
  mode text not null,
  size integer not null,
  characters integer not null,
  chunks integer not null,
  tokens integer not null,
  created_ms integer not null
) strict;

create table body(
  doc_id integer primary key references document(id) on delete cascade,
  z blob not null
) strict;

create table original(
  doc_id integer primary key references document(id) on delete cascade,
  z blob not null
) strict;

create table chunk(
  id integer primary key autoincrement,
  doc_id integer not null references document(id),
  ord integer not null,
  start integer not null,
  stop integer not null,
  page integer,
  context text not null,
  text text not null
) strict;

create unique index chunk_doc on chunk(doc_id, ord);

-- Apart from the texts, so that their pages stay dense.
create table vec(id integer primary key, e blob not null) strict;

-- bm25() needs all detail in a table without content.
create virtual table fts using fts5(
  text, content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 2"
);

create table segment(
  gen integer primary key,
  file text not null,
  rows integer not null,
  max_chunk integer not null,
  max_document integer not null,
  made_ms integer not null
) strict;

-- Documents whose chunks still get their vectors. No search and no list sees them.
create table staged(
  job text primary key,
  document blob not null,
  body blob not null,
  original blob,
  created_ms integer not null
) strict;

create table staged_chunk(
  id integer primary key,
  job text not null references staged(job) on delete cascade,
  ord integer not null,
  start integer not null,
  stop integer not null,
  page integer,
  context text not null,
  text text not null,
  e blob,
  unique(job, ord)
) strict;
