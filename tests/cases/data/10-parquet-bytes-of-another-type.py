"""Parquet whose struct {bytes, path} holds a list of numbers, or base64 text: one line, no traceback."""

import base64

import pyarrow as pa
import pyarrow.parquet as pq
from situation import TMP, images, picture, verdict

J = [picture(i) for i in range(5)]
tables = {
    "list": pa.table(
        {
            "image": pa.array(
                [{"bytes": list(j), "path": None} for j in J],
                pa.struct([("bytes", pa.list_(pa.uint8())), ("path", pa.string())]),
            )
        }
    ),
    "text": pa.table(
        {
            "image": pa.array(
                [{"bytes": base64.b64encode(j).decode(), "path": None} for j in J],
                pa.struct([("bytes", pa.string()), ("path", pa.string())]),
            )
        }
    ),
    "twice": pa.Table.from_arrays([pa.array(J), pa.array(J)], names=["image", "image"]),
}
bad = []
for name, table in tables.items():
    pq.write_table(table, TMP / f"{name}.parquet")
    result = images({"kind": "parquet", "path": str(TMP / f"{name}.parquet")})
    bad += [name] if "Traceback" in result.stderr else []
verdict(not bad, f"tracebacks for {bad}")
