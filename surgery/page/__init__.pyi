from .page_files import INDEX as INDEX
from .page_files import PAGE as PAGE
from .page_files import PageFile as PageFile
from .page_files import page_files as page_files
from .page_files import run_files as run_files
from .run_entries import RunEntries as RunEntries
from .scripts import picture_script as picture_script
from .scripts import picture_script_size as picture_script_size
