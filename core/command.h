/* command.h -- a command of the command line that is written in Lua
 * (lua/omade/cli/NAME.lua) and run by the core. */
#ifndef COMMAND_H
#define COMMAND_H

#include "base/buf.h"
#include "config.h"
#include "runtime.h"

/* Runs NAME's main(arguments) in a task without budgets: RUNTIME_OWNER with the owner's
 * database, RUNTIME_PLAIN without any.  Returns the exit code, and why in 'fault' unless
 * the command told it: a line, or a program error with its traceback. */
int command_run(const struct config *config, const char *name, char *const arguments[],
                int argument_count, enum runtime_role role, struct buf *fault);

#endif
