# Print the folder of the Pointcept checkout that a run uses, or nothing:
# $POINTCEPT_ROOT, else the first of $PYTHONPATH that holds one. A wrong
# $POINTCEPT_ROOT prints nothing here: the program says what is wrong with it.
[ "${POINTINS_HOST:-auto}" != standalone ] || exit 0
IFS=:
for folder in ${POINTCEPT_ROOT:-${PYTHONPATH:-}}; do
    if [ -f "$folder/pointcept/__init__.py" ]; then
        (cd "$folder" && pwd)
        exit 0
    fi
done
