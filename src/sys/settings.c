/*
 * settings.c
 *		What ALTER ROLE ... SET and ALTER DATABASE ... SET say of a session.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_db_role_setting.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "storage/lwlock.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "shim.h"

/* Mixes the bytes of the row for this pair, if there is one, into a sum */
static uint64
add_row(Relation rel, Oid database, Oid role, uint64 sum)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(rel, DbRoleSettingDatidRolidIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		sum = hash_bytes_extended((const unsigned char *) tuple->t_data + tuple->t_data->t_hoff,
								  tuple->t_len - tuple->t_data->t_hoff, sum + 1);
	systable_endscan(scan);
	return sum;
}

/*
 * A number that is another one when a new session of this role in this
 * database would begin with other settings (the rows of process_settings,
 * postinit.c).  A table without pages, the usual case, costs next to nothing.
 */
uint64
mw_role_settings(Oid database, Oid role)
{
	Relation	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	uint64		sum = 0;

	if (RelationGetNumberOfBlocks(rel) > 0)
	{
		sum = add_row(rel, database, role, sum);
		sum = add_row(rel, InvalidOid, role, sum);
		sum = add_row(rel, database, InvalidOid, sum);
		sum = add_row(rel, InvalidOid, InvalidOid, sum);
	}
	table_close(rel, AccessShareLock);
	return sum;
}
