"""Prints incidents when they are raised and when they are cleared, and after a lost connection what has changed meanwhile."""

import json
import time

import psycopg

open_ones = {}


def tell(state, incident, check, subject, value=None, detail=None):
    if (state == "raised") == (incident in open_ones):
        return  # told before
    if state == "raised":
        open_ones[incident] = (check, subject)
    else:
        del open_ones[incident]
    print(time.strftime("%H:%M:%S"), f"{state:7} incident {incident}: {check}: {subject}", f"{value}" if value is not None else "",
          f"({detail})" if detail else "", flush=True)  # fmt: skip


while True:
    try:
        with psycopg.connect(autocommit=True, keepalives_idle=30, keepalives_interval=10, keepalives_count=3) as conn:
            conn.execute("LISTEN alert")  # first listen, then look: nothing falls in between
            found = conn.execute("SELECT id, name, subject, value, detail FROM alert.incidents WHERE cleared_at IS NULL").fetchall()
            for incident in open_ones.keys() - {row[0] for row in found}:
                tell("cleared", incident, *open_ones[incident])
            for row in found:
                tell("raised", *row)
            for notice in conn.notifies():
                what = json.loads(notice.payload)
                tell(what["state"], what["incident"], what["check"], what["subject"], what["value"], what["detail"])
    except psycopg.OperationalError as error:
        print(time.strftime("%H:%M:%S"), "no connection:", str(error).strip(), flush=True)
        time.sleep(1)
