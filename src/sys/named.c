/*
 * named.c
 *		What users name in a text: time zones, functions and values of settings,
 *		read as the server itself reads them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
#if PG_VERSION_NUM >= 160000
#include "utils/guc_hooks.h"
#else
#include "commands/variable.h"
#endif

#include "shim.h"

/*
 * The zone that "SET timezone" would set; NULL if it would refuse the text.  The server's own
 * check reads it, so that a bare number counts hours east of Greenwich here, too.
 */
pg_tz *
mw_find_timezone(const char *name)
{
	char	   *value = pstrdup(name);
	void	   *extra = NULL;
	pg_tz	   *zone = NULL;

	if (check_timezone(&value, &extra, PGC_S_SESSION) && extra != NULL)
		zone = *((pg_tz **) extra);
	if (extra != NULL)
#if PG_VERSION_NUM >= 160000
		guc_free(extra);
#else
		free(extra);
#endif
	return zone;
}

/* Says why a check hook refuses a value.  Either may be NULL. */
void
mw_refuse_value(const char *detail, const char *hint)
{
	if (detail != NULL)
		GUC_check_errdetail("%s", detail);
	if (hint != NULL)
		GUC_check_errhint("%s", hint);
}

/* The routine of that name with exactly these argument types, as regprocedure reads it; 0: none. */
Oid
mw_routine_with_types(text *signature)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		found;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(signature);
	fcinfo->args[0].isnull = false;
	found = to_regprocedure(fcinfo);
	return fcinfo->isnull ? InvalidOid : DatumGetObjectId(found);
}

static const char *
kind_of(char prokind)
{
	switch (prokind)
	{
		case PROKIND_PROCEDURE:
			return "a procedure";
		case PROKIND_AGGREGATE:
			return "an aggregate";
		case PROKIND_WINDOW:
			return "a window function";
		default:
			return "a function";
	}
}

/* "a procedure work.f(jsonb)"; NULL if the routine is gone. */
char *
mw_describe_routine(Oid routine)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(routine));
	char		kind;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	kind = ((Form_pg_proc) GETSTRUCT(tuple))->prokind;
	ReleaseSysCache(tuple);
	return psprintf("%s %s", kind_of(kind), format_procedure(routine));
}

/*
 * The routines of that name, whatever their arguments, in the caller's search path: up to "most" of
 * them, separated by commas; NULL if there is none.
 */
char *
mw_routines_named(text *name, int most)
{
	List	   *names = textToQualifiedNameList(name);
	FuncCandidateList found = FuncnameGetCandidates(names, -1, NIL, false, false, false, true);
	StringInfoData list;
	int			count = 0;

	initStringInfo(&list);
	for (; found != NULL; found = found->next)
	{
		char	   *routine = count < most ? mw_describe_routine(found->oid) : NULL;

		if (routine != NULL)
			appendStringInfo(&list, "%s%s", count > 0 ? ", " : "", routine);
		count++;
	}
	if (count > most)
		appendStringInfo(&list, " and %d more", count - most);
	return count > 0 ? list.data : NULL;
}

/*
 * Runs statements as the caller, whose GRANTs do not become a part of what an extension came with:
 * within an extension's script the server would note them in pg_init_privs, and pg_dump would leave
 * them out.
 */
void
mw_run_outside_script(const char *sql)
{
	bool		creating = creating_extension;

	creating_extension = false;
	PG_TRY();
	{
		if (SPI_connect() != SPI_OK_CONNECT || SPI_execute(sql, false, 0) < 0)
			elog(ERROR, "could not run \"%s\"", sql);
		SPI_finish();
	}
	PG_FINALLY();
	{
		creating_extension = creating;
	}
	PG_END_TRY();
}
