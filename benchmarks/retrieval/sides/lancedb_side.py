"""LanceDB: a table with the index that found most in least time of those it has, and its own keyword index."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from lancedb.rerankers import RRFReranker
from serving import N, serve


class Lance:
    def __init__(self, folder: Path) -> None:
        self.database = lancedb.connect(str(folder))
        there = "v" in self.database.table_names()
        self.table: Any = self.database.open_table("v") if there else None
        self.reranker = RRFReranker()

    def ingest(self, low: int, vectors: Any, texts: list[str]) -> None:
        rows = pa.table(
            {
                "id": list(range(low, low + len(vectors))),
                "text": texts,
                "e": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            }
        )
        if self.table is None:
            self.table = self.database.create_table("v", rows)
        else:
            self.table.add(rows)

    def index(self) -> None:
        self.table.optimize()
        self.table.create_index(metric="cosine", vector_column_name="e", index_type="IVF_RQ")
        self.table.create_fts_index("text", use_tantivy=False)
        self.table.wait_for_index([index.name for index in self.table.list_indices()], timeout=timedelta(minutes=10))

    def search(self, vector: Any, text: str | None) -> list[int]:
        if text is None:
            asked = self.table.search(vector, vector_column_name="e")
        elif vector is None:
            return [row["id"] for row in self.table.search(text, query_type="fts").limit(N).to_list()]
        else:
            asked = self.table.search(query_type="hybrid", vector_column_name="e").vector(vector).text(text)
            asked = asked.rerank(self.reranker)
        asked = asked.distance_type("cosine").nprobes(20).refine_factor(5).limit(N)
        return [int(id_) for id_ in asked.to_arrow()["id"].to_pylist()]


if __name__ == "__main__":
    serve(Lance)
