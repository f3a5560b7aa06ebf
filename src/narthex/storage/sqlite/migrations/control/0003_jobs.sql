create table job(
  seq integer primary key autoincrement,
  id text not null unique,
  kind text not null,
  account_id text not null references account(id),
  key_id text not null references api_key(id),
  collection_id text not null,
  collection_key text not null,
  subject text not null,
  payload text not null check(json_valid(payload)),
  state text not null check(state in ('queued', 'running', 'done', 'failed', 'cancelled')),
  done integer not null default 0,
  total integer not null default 0,
  message text not null default '',
  error text not null default '',
  warnings text not null default '[]' check(json_valid(warnings)),
  result text not null default '{}' check(json_valid(result)),
  attempts integer not null default 0,
  owner text not null default '',
  lease_until_ms integer not null default 0,
  created_ms integer not null,
  updated_ms integer not null
) strict;

create index job_open on job(account_id, seq) where state in ('queued', 'running');
create index job_open_in_collection on job(collection_id, seq) where state in ('queued', 'running');
create index job_in_collection on job(collection_id, seq);
create index job_ended on job(updated_ms) where state not in ('queued', 'running');

-- When an account last had its turn, in turns of all.
create table job_turn(
  account_id text primary key references account(id),
  turn integer not null
) strict, without rowid;
