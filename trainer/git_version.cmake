# Run at every build: writes git_version.h when what `git describe` says has changed. Without git the text is empty.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --tags OUTPUT_VARIABLE text OUTPUT_STRIP_TRAILING_WHITESPACE
                ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(text "")
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define LORAT_GIT \"${text}\"\n")
