/* command.h -- a command of the command line that is written in Lua
 * (lua/omade/cli/NAME.lua) and run by the core. */
#ifndef COMMAND_H
#define COMMAND_H

#include "base/buf.h"
#include "config.h"

/* Runs NAME's main(arguments) in a task without budgets, as the owner of the database
 * or as app_user.  Returns the exit code; a message in 'fault' when it is not 0. */
int command_run(const struct config *config, const char *name, char *const arguments[],
                int argument_count, bool as_server, struct buf *fault);

#endif
