create table collection(
  id text primary key,
  account_id text not null references account(id),
  key text not null,
  model text not null,
  dim integer not null check(dim > 0),
  digest text not null,
  max_tokens integer not null,
  description text not null,
  retrieval text not null check(retrieval in ('hybrid', 'vector', 'keyword')),
  weight real not null check(weight between 0 and 1),
  generation integer not null check(generation > 0),
  created_ms integer not null,
  unique(account_id, key)
) strict;
