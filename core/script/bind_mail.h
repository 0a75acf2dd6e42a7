/* bind_mail.h -- the module omade.core.mail: mail to an SMTP server. */
#ifndef SCRIPT_BIND_MAIL_H
#define SCRIPT_BIND_MAIL_H

#include <lua.h>

struct script_env;

int luaopen_omade_mail(lua_State *L);

/* No task may be left.  The loop has to run once more, for what is being cut off. */
void mail_end(struct script_env *env);

#endif
