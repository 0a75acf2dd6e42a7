/* bind_upload.h -- engine.uploads_parts, engine.uploads_keep: multipart bodies with files.
 *
 * The body went to a nameless file; it is mapped, split, and its files are looked at and
 * kept in threads of uv's, never on the loop.
 */
#ifndef SCRIPT_BIND_UPLOAD_H
#define SCRIPT_BIND_UPLOAD_H

#include <lua.h>

/* uploads_parts(req) waits: {form, {name =, text =} or {name =, filename =, size =, kind =,
 * width =, height =, at =}, ...}; raises 400 and 413.  nil: the body is no file. */
int uploads_parts(lua_State *L);

/* uploads_keep(form, at, path) waits: keeps file 'at' under that name; raises 507. */
int uploads_keep(lua_State *L);

/* uploads_drop(path): removes a file that was kept in vain. */
int uploads_drop(lua_State *L);

#endif
