from .address_text import address_identity as address_identity
from .address_text import address_name as address_name
from .address_text import hide_secrets as hide_secrets
from .address_text import is_address as is_address
from .address_text import local_path as local_path
from .file_systems import describe_address_error as describe_address_error
from .file_systems import open_file_system as open_file_system
from .file_systems import retry as retry
